"""A peer of two proxies with mutual TLS between them: one in the client's pod, one in each server's pod."""

from __future__ import annotations

from abc import abstractmethod

from tests.bench import pki
from tests.bench.peer import Peer, Place
from tests.bench.proc import tree
from tests.kit.lab import Pod
from tests.kit.spawn import Process

FAR_PORT = 15443  # where the far end waits for the near one


class Pair(Peer):
    """`start` issues certificates and starts both; their processes are counted together."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.ends: list[Process] = []
        pki.issue(place.directory)

    def start(self) -> None:
        for app in self.place.apps:
            self.ends.append(self.begin(app.pod, "far"))
        self.ends.append(self.begin(self.place.client, "near"))

    @abstractmethod
    def begin(self, pod: Pod, end: str) -> Process:
        """Start one end; it need not be ready yet."""

    def processes(self) -> list[int]:
        return [pid for end in self.ends for pid in tree(end.pid)]

    def stop(self) -> None:
        while self.ends:
            self.ends.pop().stop()
