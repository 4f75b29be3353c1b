"""The demo's four pods as the YAML beside says, with their real programs; and the mesh over them.

Names and addresses are fixed (seine-demo-*, those in the YAML), so that a reader finds in the machine what the YAML
shows, and there is one demo per machine: `claimed` says whose. Because they are fixed, what a killed demo left is known
by its name alone, and `sweep` takes it away; it touches nothing while a demo lives, and nothing of another name.
The pods are not in the agent's own cgroup (seine-demo): sockets made in there are Seine's.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pyroute2 import IPRoute

from deploy.demo.progress import step
from tests.kit import apps, leftovers, network, spawn
from tests.kit.lab import Lab
from tests.kit.manifests import Manifests
from tests.kit.network import Node, Subnet
from tests.kit.seine import Mesh, signal_if_alive
from tests.kit.wait import eventually

SOURCE = Path(__file__).resolve().parent
ROOT = SOURCE.parents[1]
NAME = "seine-demo"
NODE = "demo"
WEB_PORT = 8080
SECONDS_OF_WORK = {"fast": 0.005, "slow": 0.010}  # of a web replica per request, by its version label
PRODUCT: dict[str, Any] = {
    "reconcile_seconds": 1,
    "prove_seconds": 5,
    "log_level": "INFO",
}  # as users have it, not as tests do


def objects(kind: str) -> list[dict[str, Any]]:
    """All objects of a kind that the YAML declares."""
    texts = (path.read_text() for path in sorted(SOURCE.glob("*.yaml")))
    return [each for text in texts for each in yaml.safe_load_all(text) if each["kind"] == kind]


def addresses(service: str) -> list[str]:
    """The Service's own, IPv4 and IPv6."""
    found: list[str] = next(s["spec"]["clusterIPs"] for s in objects("Service") if s["metadata"]["name"] == service)
    return found


# --- one per machine


@contextmanager
def claimed() -> Iterator[None]:
    """Nobody else's demo on this machine meanwhile. The claim is an abstract socket: it dies with its process."""
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            claim.bind(f"\0{NAME}")
            claim.listen()
        except OSError:
            sentence = f"a demo runs already (process {_owner()}); its names are fixed, so end it first"
            raise RuntimeError(sentence) from None
        yield


def _owner() -> str:
    with socket.socket(socket.AF_UNIX) as asker, suppress(OSError):
        asker.connect(f"\0{NAME}")
        return str(struct.unpack("3i", asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
    return "unknown"


def sweep() -> list[str]:
    """Remove what a dead demo left; a sentence for each thing."""
    try:
        with claimed():
            return clear()
    except RuntimeError as reason:
        return [str(reason)]


def clear() -> list[str]:
    """The same for whoever holds the claim."""
    killed: dict[int, str] = {}

    def dead() -> bool:
        """Looks again and again: an agent that is about to die may start one more worker."""
        living = leftovers.marked_with(NAME)
        for pid in living:
            signal_if_alive(pid, signal.SIGKILL)
        killed.update(living)
        return not living

    eventually(dead, "the demo's processes to be gone")
    done = [f"killed {pid}: {command}" for pid, command in killed.items()]
    for path in _places():
        leftovers.remove(path)
        done.append(f"removed {path}")
    for link in _links():
        network.remove_link(link)
        done.append(f"removed link {link}")
    return done


def left() -> list[str]:
    """What is there of a demo, living or dead."""
    found = [str(path) for path in _places()] + [f"network link {link}" for link in _links()]
    return found + [f"process {pid}: {command}" for pid, command in leftovers.marked_with(NAME).items()]


def _places() -> list[Path]:
    cgroups = leftovers.cgroup2_root()
    found = [leftovers.NETNS / f"{NAME}-{pod['metadata']['name']}" for pod in objects("Pod")]
    found += [root / "seine" / NODE for root in leftovers.bpf_roots()]
    found += [cgroups / f"{NAME}-pods", cgroups / f"seine-{NODE}", leftovers.RUN / NODE, _directory()]
    return [path for path in found if path.exists()]


def _links() -> list[str]:
    with IPRoute() as ip:
        names = [str(link.get_attr("IFLA_IFNAME")) for link in ip.get_links()]
    return [name for name in names if name == NAME or name.startswith(f"{NAME}.")]


def _directory() -> Path:
    return Path(tempfile.gettempdir()) / NAME


# --- pods


@dataclass(frozen=True)
class ShopSubnet(Subnet):
    """10.244.77.0/24 and fd00:77::/64."""

    number: int = (244 - 128) * 256 + 77

    def ip6(self, host: int) -> str:
        return f"fd00:77::{host}"


class Shop(Lab):
    def __init__(self) -> None:
        super().__init__(NODE)
        self.name, self.directory = NAME, _directory()
        self.cgroup = leftovers.cgroup2_root() / f"{NAME}-pods"

    def machine_node(self) -> Node:
        self._undo.callback(clear)  # in the end, of what a start that was cut short had no time to register
        subnet = ShopSubnet()
        if network.claim_subnet(self._undo, subnet.number).number != subnet.number:
            raise RuntimeError(f"this machine uses {subnet.ip(1)} already, which the demo's YAML gives to its node")
        return Node(self.name, NAME, subnet)

    def build_pods(self) -> None:
        for each in objects("Pod"):
            self.node.next_host = int(each["status"]["podIP"].rpartition(".")[2])
            self.pod(each["metadata"]["name"])

    def close(self) -> None:
        if os.getpid() == self.owner:
            with step("removing everything"):
                super().close()


class Programs:
    """What runs in the pods, client excepted."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.web: dict[str, apps.Nginx] = {}

    def start_web(self) -> None:
        for each in objects("Pod"):
            name, version = each["metadata"]["name"], each["metadata"]["labels"]["app.kubernetes.io/version"]
            if version in SECONDS_OF_WORK:
                self.web[name] = apps.Nginx(self.shop.pods[name], WEB_PORT, delay=SECONDS_OF_WORK[version])

    def start_db(self) -> None:
        self.db = apps.Postgres(self.shop.pods["db"], log_statement="all")


class Client:
    """The traffic (see traffic.py), with its own count."""

    def __init__(self, shop: Shop) -> None:
        self._out = shop.log_path("client.json")
        arguments = [*addresses("web"), addresses("db")[0], apps.postgres_bin() / "psql", self._out]
        command = [sys.executable, "-S", "-m", "deploy.demo.traffic", *map(str, arguments)]
        self.process: spawn.Process = shop.pods["client"].popen(command, env={"PYTHONPATH": str(ROOT)})
        eventually(self.tally, "the client to begin", 15.0)  # from then on it knows how to end

    def tally(self) -> dict[str, Any]:
        """Empty until it has begun."""
        if not self.process.alive and self.process.popen.returncode != 0:
            raise RuntimeError(f"the demo's client ended\n{self.process.output()}")
        found: dict[str, Any] = json.loads(self._out.read_text()) if self._out.exists() else {}
        return found

    def finish(self) -> dict[str, Any]:
        """Let it end what is under way, which takes a deadline at most; not by process group: psql has work to end."""
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(12.0)
        return self.tally()


class DemoMesh(Mesh):
    def __init__(self, shop: Shop) -> None:
        super().__init__(shop, Manifests(SOURCE, shop), **PRODUCT)
        self.node, self.run_dir = NODE, leftovers.RUN / NODE
