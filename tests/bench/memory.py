"""Memory: resident when idle, and per idle connection, once kept after a request and once opaque.

Idle: PSS of all the peer's processes, and the sockets they hold (Seine keeps a stock of them).

Per connection: what the peer's processes (PSS) and the kernel (socket memory and slab, see proc.kernel_kib) grew by
when CONNECTIONS connections had each made one exchange and stay open, minus the same growth in the direct run. The
client's and the server's own processes are not counted. The key takes the dearer of the two kinds.
"""

from __future__ import annotations

import sys
import time

from tests.bench import bars, proc
from tests.bench.app import ROOT
from tests.bench.bench import Bench, Column, Round
from tests.bench.load import LoadError
from tests.bench.measure import Sample, proven, running
from tests.bench.peer import Mode, Peer
from tests.kit.wait import eventually

CONNECTIONS = 5000  # a peer's worst case is two descriptors each, within the 20 000 of this kind of machine
REST_S = 1.0  # freed memory goes back, lazily made things are made
STILL_S, STILL_KIB = 0.3, 32  # ten sockets more or less are somebody else's
OPEN_S = 60  # to open them all; 3 s is usual


def at_rest() -> float:
    """Socket memory once it no longer changes: the kernel frees the thousands of the turn before in its own time."""
    seen = [proc.sockets_kib()]

    def still() -> bool:
        time.sleep(STILL_S)
        seen.append(proc.sockets_kib())
        return abs(seen[-1] - seen[-2]) < STILL_KIB

    eventually(still, "the sockets of the turn before to be gone", OPEN_S)
    return seen[-1]


class Memory(Bench):
    name = "memory"
    peers = ("envoy", "direct", "seine", "haproxy", "nginx")
    modes = (Mode.HTTP, Mode.TCP)
    bars = bars.MEMORY
    columns = (
        Column("idle_kib", "idle MiB", 1024, 1),
        Column("http_kib", "KiB per HTTP connection, all", digits=1),
        Column("http_added_kib", "beyond direct", digits=1),
        Column("tcp_kib", "KiB per opaque connection, all", digits=1),
        Column("tcp_added_kib", "beyond direct", digits=1),
    )

    def __init__(self, quick: bool) -> None:
        super().__init__(quick)
        self.count = 1000 if quick else CONNECTIONS

    def turn(self, peer: Peer) -> Sample:
        sockets = at_rest()
        with running(peer):
            time.sleep(REST_S)
            idle = proc.pss_kib(peer.processes()) + proc.sockets_kib() - sockets
            each = self._grown(peer) / self.count
        own = {f"{peer.place.mode}_kib": each}
        return own | {"idle_kib": idle} if peer.place.mode is Mode.HTTP else own

    def _grown(self, peer: Peer) -> float:
        host, port = peer.address()
        argv = [sys.executable, str(ROOT / "tests/bench/stream.py"), "hold", host, str(port), str(self.count)]
        before, carried = self._kib(peer), peer.carried()
        holder = peer.place.client.popen([*argv, peer.place.mode.value])
        try:
            eventually(lambda: "ready" in holder.output() or not holder.alive, "idle connections", OPEN_S)
            if not holder.alive:
                raise LoadError(f"the idle connections failed: {holder.output()[-300:]}")
            proven(peer, carried, self.count, 0)
            time.sleep(REST_S)
            return self._kib(peer) - before
        finally:
            holder.stop()

    def _kib(self, peer: Peer) -> float:
        return proc.pss_kib(peer.processes()) + proc.kernel_kib()

    def complete(self, found: Round) -> Round:
        direct = found.get("direct", {})
        for sample in found.values():
            for kind in Mode:
                if f"{kind}_kib" in sample and f"{kind}_kib" in direct:
                    sample[f"{kind}_added_kib"] = sample[f"{kind}_kib"] - direct[f"{kind}_kib"]
        return found

    def ratios(self, found: Round) -> dict[str, float]:
        if "seine" not in found:
            return {}
        seine = found["seine"]
        added = [seine[name] for name in ("http_added_kib", "tcp_added_kib") if name in seine]
        return {"idle_mib": seine["idle_kib"] / 1024} | ({"per_connection_kib": max(added)} if added else {})
