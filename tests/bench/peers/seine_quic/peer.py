"""Seine as in seine_pair, with `transport: quic` on both nodes. What goes by HBONE all the same is no result."""

from __future__ import annotations

from tests.bench.peer import Mode, Place
from tests.bench.peers.seine_pair.peer import DEFAULTS, SeinePair
from tests.kit.seine import Mesh
from tests.kit.wait import eventually


class SeineQuic(SeinePair):
    modes = frozenset({Mode.HTTP})
    settings = DEFAULTS | {"transport": "quic"}

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        for node in (place.client.node, place.server.node):
            self.near.manifests.node(node)

    def start(self) -> None:
        super().start()
        both = (self.near, self.far)
        eventually(
            lambda: all(workers(mesh) == self.place.threads for mesh in both), "workers to find the QUIC process", 20
        )

    def is_tunnelled(self) -> bool:
        counters = [worker["counters"] for worker in self.far.status()["workers"]]
        arrived, by_hbone = (sum(each.get(name, 0) for each in counters) for name in ("carry_arrived", "hbone_streams"))
        return arrived > 0 and not by_hbone


def workers(mesh: Mesh) -> int:
    return int(mesh.status()["quic"]["levels"].get("workers", 0))
