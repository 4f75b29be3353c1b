"""HTTP/1.1 over 32 kept connections: saturation by wrk, then a fixed rate by h2load; CPU of both.

The fixed rate is 20 % of Envoy's saturation in this run's first round, which is why Envoy is the first of the peers; it
is the same for everybody. The latency that a peer adds is its median minus the direct run's of the same round.
"""

from __future__ import annotations

from tests.bench import bars
from tests.bench.bench import Bench, Column, Round, divided, present
from tests.bench.load import CONNECTIONS, h2load, warm_up, wrk
from tests.bench.measure import Sample, costed, running
from tests.bench.peer import Peer

FIXED_SHARE = 0.2  # of Envoy's saturation: a busy service's everyday, with no queue in any peer
FALLBACK_RATE = 3000.0  # requests/s when Envoy is not among the peers
NOISE_US = 1.0  # smallest added latency that a ratio is made of


class Http1(Bench):
    name = "http1"
    peers: tuple[str, ...] = ("envoy", "direct", "seine", "haproxy", "nginx", "seine_shortcut", "kernel")
    bars: tuple[bars.Bar, ...] = bars.HTTP1
    columns = (
        Column("rps", "requests/s"),
        Column("p50_us", "p50 us"),
        Column("p99_us", "p99 us"),
        Column("process_us", "process us/req", digits=1),
        Column("busy_added_us", "machine us/req beyond direct", digits=1),
        Column("fixed_p50_us", "p50 us, fixed rate"),
        Column("fixed_p99_us", "p99 us, fixed rate"),
        Column("fixed_process_us", "process us/req, fixed", digits=1),
    )

    def __init__(self, quick: bool) -> None:
        super().__init__(quick)
        self.rate = 0.0
        self.warm, self.full_s, self.fixed_s = (2_000, 1, 1) if quick else (20_000, 4, 4)

    def turn(self, peer: Peer) -> Sample:
        with running(peer):
            host, port = peer.address()
            url, client = f"http://{host}:{port}/", peer.place.client
            warm_up(client, url, self.warm)
            full, full_cost = costed(peer, lambda: wrk(client, url, self.full_s), CONNECTIONS)
            rate = self._rate(peer.place.peer, full.rate)
            log = peer.place.directory / "h2load.log"
            fixed, fixed_cost = costed(peer, lambda: h2load(client, url, self.fixed_s, rate=rate, log=log), 0)
        return {
            "rps": full.rate,
            "p50_us": full.p50_us,
            "p99_us": full.p99_us,
            "busy_us": full_cost.busy_us,
            "process_us": full_cost.process_us,
            "fixed_rps": fixed.rate,
            "fixed_p50_us": fixed.p50_us,
            "fixed_p99_us": fixed.p99_us,
            "fixed_busy_us": fixed_cost.busy_us,
            "fixed_process_us": fixed_cost.process_us,
        }

    def _rate(self, peer: str, saturation: float) -> float:
        """The first turn of the run decides: it is Envoy's, unless Envoy is not there or failed."""
        if not self.rate:
            self.rate = FIXED_SHARE * saturation if peer == self.peers[0] else FALLBACK_RATE
        return self.rate

    def ratios(self, found: Round) -> dict[str, float]:
        return present(
            {
                "cpu_vs_haproxy": divided(found, "seine", "haproxy", "process_us"),
                "cpu_vs_envoy": divided(found, "seine", "envoy", "process_us"),
                "rps_vs_envoy": divided(found, "seine", "envoy", "rps"),
                "shortcut_rps_vs_direct": divided(found, "seine_shortcut", "direct", "rps"),
                "added_p50_vs_envoy": added(found, "seine", "envoy"),
                "kernel_rps_vs_direct": divided(found, "kernel", "direct", "rps"),
            }
        )


def added(found: Round, above: str, below: str) -> float | None:
    """What one adds to the direct run's median at the fixed rate, divided by what the other does."""
    if not {above, below, "direct"} <= found.keys():
        return None
    over, under = (found[name]["fixed_p50_us"] - found["direct"]["fixed_p50_us"] for name in (above, below))
    return max(over, 0.0) / max(under, NOISE_US)
