"""Real programs in pods, each started, waited for and asked by one small class. No pytest, no mesh: the demo uses them.

A program's own log is the witness of what reached it: nginx's access log and PostgreSQL's connection log are read back
as records, so a test compares the mesh's counts with what the application saw.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.kit import spawn
from tests.kit.lab import Pod
from tests.kit.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "kit"  # what is made once per checkout: client.c built, an empty PostgreSQL


def script(pod: Pod, module: str, *arguments: object) -> spawn.Process:
    """One of the kit's own programs; the bare interpreter starts three times faster than one with site packages."""
    command = [sys.executable, "-S", "-m", f"tests.kit.{module}", *(str(a) for a in arguments)]
    return pod.popen(command, env={"PYTHONPATH": str(ROOT)})


class Talk:
    """The talk server (see talk.py): TCP, TCP that speaks first, and UDP."""

    def __init__(self, pod: Pod, port: int = 7000, banner_port: int = 7001, udp_port: int = 7002) -> None:
        self.pod, self.port, self.banner_port, self.udp_port = pod, port, banner_port, udp_port
        self.process = script(pod, "talk", port, banner_port, udp_port, pod.name)
        pod.wait_listening(port, banner_port)


class Origin:
    """The HTTP origin that records the bytes it saw (see origin.py)."""

    def __init__(self, pod: Pod, port: int = 8080) -> None:
        self.pod, self.port = pod, port
        self.directory = pod.directory / f"origin-{port}"
        self.directory.mkdir()
        self.process = script(pod, "origin", port, self.directory, pod.name)
        pod.wait_listening(port)

    def connections(self) -> list[bytes]:
        """The bytes of each connection until now, in the order of their acceptance."""
        files = sorted(self.directory.glob("*.in"), key=lambda path: int(path.stem))
        return [path.read_bytes() for path in files]


NGINX = """
load_module /usr/lib/nginx/modules/ngx_http_echo_module.so;
daemon off; master_process off; worker_rlimit_nofile 20000; error_log stderr warn; pid {directory}/pid;
events {{ worker_connections 8192; }}
http {{
  log_format seen escape=json '{{"time": $msec, "peer": "$remote_addr", "request": "$request", "status": $status,'
    ' "connection": $connection, "sent": $body_bytes_sent, "host": "$host"}}';
  access_log {directory}/access.log seen;
  {temporary}
  keepalive_requests 1000000; keepalive_timeout 3600;
  server {{
    listen {port}; listen [::]:{port};
    {access}
    location / {{ {delay} default_type text/plain; echo_duplicate 1 "{body}"; }}
    location /slow {{ echo_sleep 1; echo "{name}"; }}
    location /files/ {{ alias {directory}/files/; }}
  }}
}}
"""


class Nginx:
    """nginx answering `/` with its pod's name (after `delay` seconds), `/slow` after a second, `/files/` from `files`.

    `allow`: the only client addresses it serves (403 for others): proof of which address the application sees.
    `size` > 0: `/` answers that many bytes instead of the name.
    """

    def __init__(self, pod: Pod, port: int = 80, delay: float = 0, allow: Sequence[str] = (), size: int = 0) -> None:
        self.pod, self.port = pod, port
        self.directory = pod.directory / f"nginx-{port}"
        self.files = self.directory / "files"
        self.files.mkdir(parents=True)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        configuration = self.directory / "nginx.conf"
        configuration.write_text(
            NGINX.format(
                directory=self.directory,
                port=port,
                name=pod.name,
                access="".join(f"allow {address}; " for address in allow) + ("deny all;" if allow else ""),
                delay=f"echo_sleep {delay};" if delay else "",
                body="x" * size if size else pod.name + "\\n",
                temporary=" ".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in kinds),
            )
        )
        self.process = pod.popen(["nginx", "-c", str(configuration), "-p", str(self.directory)])
        pod.wait_listening(port)

    def requests(self) -> list[dict[str, Any]]:
        """Every finished request: time, peer, request, status, connection, sent, host."""
        log = self.directory / "access.log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@cache
def postgres_bin() -> Path:
    """The newest PostgreSQL's programs; Debian keeps them off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise RuntimeError("PostgreSQL is not installed (Debian package postgresql)")
    return found[-1]


@cache
def _empty_cluster() -> Path:
    """A fresh data directory, made once per checkout and copied for each server: initdb takes seconds."""
    kept = CACHE / f"postgresql-{postgres_bin().parent.name}"
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as building:  # not in the checkout: its path may be closed to others
            shutil.chown(building, "postgres", "postgres")
            data = Path(building) / "data"
            command = [str(postgres_bin() / "initdb"), "-D", str(data), "--auth=trust", "-U", "postgres", "--no-sync"]
            subprocess.run(command, user="postgres", group="postgres", check=True, capture_output=True, cwd="/")
            _keep(data, kept)
    return kept


def _keep(made: Path, kept: Path) -> None:
    """Into the cache under its name at once; when another run was faster, its copy is as good."""
    copy = Path(f"{kept}.{os.getpid()}")
    shutil.move(made, copy)
    try:
        copy.rename(kept)
    except OSError:
        shutil.rmtree(copy)


class Postgres:
    """PostgreSQL as user postgres, open to everybody in the lab, logging each connection and its client's address.

    `more`: further settings of postgresql.conf.
    """

    def __init__(self, pod: Pod, port: int = 5432, **more: str) -> None:
        self.pod, self.port = pod, port
        self.data = pod.directory / f"postgresql-{port}"
        shutil.copytree(_empty_cluster(), self.data)
        owner = pwd.getpwnam("postgres")
        for path in (self.data, *self.data.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        self.data.chmod(0o700)
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host all all all trust\n")
        options = {"listen_addresses": "*", "port": port, "unix_socket_directories": self.data, "fsync": "off"}
        options |= {"log_connections": "on", "log_line_prefix": "%m [%p] ", "shared_buffers": "16MB", **more}
        command = [str(postgres_bin() / "postgres"), "-D", str(self.data)]
        self.process = pod.popen([*command, *(f"--{key}={value}" for key, value in options.items())], user="postgres")
        pod.wait_listening(port)
        eventually(lambda: "ready to accept connections" in self.process.output(), "PostgreSQL to be ready")

    def clients(self) -> list[str]:
        """The address of each connection that arrived, as PostgreSQL saw it."""
        lines = (line.partition("connection received: host=")[2] for line in self.process.output().splitlines())
        return [line.split()[0] for line in lines if line]


def psql(pod: Pod, address: str, port: int, query: str, timeout: float = 5.0) -> str:
    """The query's result as psql prints it, unaligned; its error message as an exception."""
    target = f"host={address} port={port} user=postgres dbname=postgres connect_timeout=3 sslmode=disable"
    done = pod.run([str(postgres_bin() / "psql"), "-XAtq", "-d", target, "-c", query], timeout)
    if done.returncode != 0:
        raise ConnectionError(done.stderr.strip())
    return done.stdout.strip()


@dataclass(frozen=True)
class Curled:
    """What curl saw: HTTP status (0: none), body, its exit status (7 refused, 28 timeout, 52 empty, 56 reset), peer."""

    status: int
    body: str
    exit: int
    peer: str
    took: float


def curl(pod: Pod, url: str, *options: str, timeout: float = 5.0) -> Curled:
    facts = "\n%{http_code} %{remote_ip} %{time_total}"
    done = pod.run(["curl", "-sg", "--max-time", f"{timeout}", "-w", facts, *options, url], timeout + 5)
    body, _, tail = done.stdout.rpartition("\n")
    status, *peer, took = tail.split()
    return Curled(int(status), body, done.returncode, peer[0] if peer else "", float(took))


def wrk(pod: Pod, url: str, seconds: int = 2, connections: int = 8, threads: int = 1) -> str:
    """wrk's report."""
    command = ["wrk", f"-d{seconds}", f"-c{connections}", f"-t{threads}", "--latency", url]
    return pod.run(command, seconds + 10.0).stdout


@cache
def client_binary() -> Path:
    """client.c, built once per version of its source."""
    source = Path(__file__).with_name("client.c")
    binary = CACHE / f"client-{source.stat().st_mtime_ns}"
    if not binary.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        building = binary.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", building, source], check=True)
        building.rename(binary)
    return binary


def client(pod: Pod, way: str, *addresses_and_port: object, say: str | None = "who") -> dict[str, Any]:
    """Connect as `way` does (plain, java, go, race, bound) and report; a JSON reply is decoded. See client.c."""
    settings = ["env", f"SAY={say}"] if say is not None else []
    done = pod.run([*settings, str(client_binary()), way, *(str(a) for a in addresses_and_port)])
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout)
    if result["reply"].startswith("{"):
        result["reply"] = json.loads(result["reply"])
    return result


@dataclass(frozen=True)
class LoadResult:
    """What a load client saw (see load.py). Times are CLOCK_MONOTONIC, comparable with time.monotonic()."""

    kept: list[dict[str, Any]]
    fresh: list[dict[str, Any]]

    @property
    def failed_fresh(self) -> list[dict[str, Any]]:
        return [record for record in self.fresh if record["error"]]

    @property
    def broken(self) -> list[dict[str, Any]]:
        return [record for record in self.kept if record["error"]]

    def outcomes(self) -> set[str]:
        """All ways a fresh connection ended; "" is success."""
        return {record["error"] for record in self.fresh}


class Load:
    """A load client in a pod: `kept` long connections and `per_second` fresh ones against a talk server."""

    def __init__(self, pod: Pod, address: str, port: int, kept: int = 0, per_second: float = 0) -> None:
        self.out = pod.lab.log_path("load.json")
        self.kept = kept
        self.process = script(pod, "load", address, port, kept, per_second, self.out)

    def progress(self) -> dict[str, Any]:
        path = Path(f"{self.out}.progress")
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"kept": [], "broken": 0, "fresh": 0}
        return found

    def flows(self, exchanges: int = 5, fresh: int = 0) -> None:
        """Wait until every unbroken kept connection did that many more exchanges and `fresh` more ones were made."""
        before = self.progress()
        seen = before["kept"] or [0] * self.kept

        def moved() -> bool:
            now = self.progress()
            busy = sum(new >= old + exchanges for old, new in zip(seen, now["kept"], strict=False))
            return bool(busy + now["broken"] >= self.kept and now["fresh"] >= before["fresh"] + fresh)

        eventually(moved, "the load to flow", 10)

    def stop(self) -> LoadResult:
        self.process.stop()
        return LoadResult(**json.loads(self.out.read_text()))
