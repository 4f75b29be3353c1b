"""Many small requests between two nodes over a way that loses packets: by HBONE and by QUIC.

The nodes have 20 ms of round trip between them, and each packet is lost with 0, 1 and 3 % in each direction. Requests
come on a schedule that both carry with ease, because a full machine would measure our Python and not the way; their
latency counts from when they were due. `direct` goes the same way without a mesh, each request by itself: what it shows
at 0 % beyond the round trip is what the harness adds (`late_p99_us`: how late its script was). The relay that makes the
delay must have dropped nothing itself.
"""

from __future__ import annotations

import json
import sys

from tests.bench import bars
from tests.bench.app import ROOT
from tests.bench.bench import Bench, Column, Round, divided, present
from tests.bench.load import SLACK_S, Load, LoadError, output
from tests.bench.measure import Sample, costed, running
from tests.bench.peer import Peer
from tests.kit.lab import Lab

ROUND_TRIP_MS = 20.0
LOSS_PERCENT = (0, 1, 3)
RATE = 300.0  # requests/s: a third of a core for both ends of the slower peer
CONNECTIONS = 256  # of the client: nobody waits for one before his way has stood still for most of a second


LATE_US_MAX = 5000.0  # a quarter of the round trip: with more the machine is full of something else


class Quic(Bench):
    name = "quic"
    peers = ("direct", "seine_pair", "seine_quic")
    quick_peers = ("seine_pair", "seine_quic")
    nodes = 2
    bars = bars.QUIC
    columns = (
        *(
            Column(f"loss{percent}_{which}_us", f"{which} ms, {percent} % lost", 1e3, 1)
            for which in ("p50", "p99")
            for percent in LOSS_PERCENT
        ),
        Column("loss0_process_us", "process us/req, 0 %"),
        Column("loss3_process_us", "process us/req, 3 %"),
    )

    def __init__(self, quick: bool) -> None:
        super().__init__(quick)
        self.seconds = 2 if quick else 10

    def prepare(self, lab: Lab) -> None:
        lab.wire.delay(ROUND_TRIP_MS)

    def turn(self, peer: Peer) -> Sample:
        wire, found = peer.place.client.lab.wire, Sample()
        dropped = wire.relayed.get("dropped", 0)
        with running(peer):
            try:
                for percent in LOSS_PERCENT:
                    wire.lose(percent / 100)
                    found |= self._asked(peer, percent)
            finally:
                wire.lose(0)
        if wire.relayed.get("dropped", 0) != dropped:
            raise LoadError("the relay between the nodes was full: it has dropped frames itself")
        return found

    def _asked(self, peer: Peer, percent: int) -> Sample:
        said: dict[str, float] = {}
        load, cost = costed(peer, lambda: self._paced(peer, said), 0)
        named = said | {"p50_us": load.p50_us, "p99_us": load.p99_us, "process_us": cost.process_us}
        return {f"loss{percent}_{name}": value for name, value in named.items()}

    def _paced(self, peer: Peer, said: dict[str, float]) -> Load:
        """`said`: all that paced.py says."""
        host, port = peer.address()
        numbers = [str(port), str(CONNECTIONS), str(RATE), str(self.seconds)]
        argv = [sys.executable, str(ROOT / "tests/bench/paced.py"), host, *numbers]
        said |= json.loads(output(peer.place.client, argv, self.seconds + SLACK_S))
        if said["late_p99_us"] > LATE_US_MAX:
            late = said["late_p99_us"] / 1e3
            raise LoadError(
                f"the load itself was {late:.0f} ms late: the machine does other work, and this measures it"
            )
        return Load(int(said["requests"]), said["seconds"], said["p50_us"], said["p99_us"])

    def ratios(self, found: Round) -> dict[str, float]:
        return present({"p99_vs_hbone_loss3": divided(found, "seine_quic", "seine_pair", "loss3_p99_us")})
