"""New connections: each request opens one and ends it (`Connection: close`), 32 at a time.

The peers keep their upstream connections, so what is measured is how fast a client gets a new one captured, accepted,
answered and closed. The client's answers are its connections.
"""

from __future__ import annotations

from tests.bench import bars
from tests.bench.bench import Bench, Column, Round, divided, present
from tests.bench.load import CONNECTIONS, warm_up, wrk
from tests.bench.measure import Sample, costed, running
from tests.bench.peer import Peer


class Connect(Bench):
    name = "connect"
    peers = ("envoy", "direct", "seine", "haproxy", "nginx", "seine_shortcut")
    bars = bars.CONNECT
    columns = (
        Column("rps", "connections/s"),
        Column("p50_us", "p50 us"),
        Column("p99_us", "p99 us"),
        Column("process_us", "process us/conn", digits=1),
        Column("busy_added_us", "machine us/conn beyond direct", digits=1),
    )

    def __init__(self, quick: bool) -> None:
        super().__init__(quick)
        self.seconds = 1 if quick else 4

    def turn(self, peer: Peer) -> Sample:
        with running(peer):
            host, port = peer.address()
            url, client = f"http://{host}:{port}/", peer.place.client
            warm_up(client, url, 1000)
            load, cost = costed(peer, lambda: wrk(client, url, self.seconds, close=True), CONNECTIONS)
        return {
            "rps": load.rate,
            "p50_us": load.p50_us,
            "p99_us": load.p99_us,
            "busy_us": cost.busy_us,
            "process_us": cost.process_us,
        }

    def ratios(self, found: Round) -> dict[str, float]:
        return present({"conns_vs_envoy": divided(found, "seine", "envoy", "rps")})
