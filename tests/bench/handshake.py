"""The first request to a destination that nobody asked for before: connection, handshake and whatever has to be found
out, seen by the client; and the second one, for comparison.

Each server pod is a destination (with Seine an identity) of its own, and is asked once per turn, by one program over
connections of its own. Started anew in each turn, a peer remembers none of them.
"""

from __future__ import annotations

from tests.bench import bars
from tests.bench.bench import Bench, Column, Round, divided, present
from tests.bench.load import SLACK_S, LoadError, output
from tests.bench.measure import Sample, proven, running
from tests.bench.peer import Mode, Peer
from tests.bench.stats import percentile
from tests.kit.lab import Pod


class Handshake(Bench):
    name = "handshake"
    peers = ("envoy_pair", "direct", "seine_pair")
    quick_peers = peers
    modes = (Mode.MANY,)
    nodes = 2
    bars = bars.HANDSHAKE
    columns = (
        Column("first_ms", "first, ms, median", digits=2),
        Column("slowest_ms", "first, ms, slowest", digits=2),
        Column("second_ms", "second, ms, median", digits=2),
    )

    def turn(self, peer: Peer) -> Sample:
        with running(peer):
            before = peer.carried()
            first, second = (sorted(asked(peer.place.client, peer.addresses())) for _ in range(2))
            proven(peer, before, len(first) + len(second), 0)
        return {
            "first_ms": percentile(first, 0.5) / 1e3,
            "slowest_ms": first[-1] / 1e3,
            "second_ms": percentile(second, 0.5) / 1e3,
        }

    def ratios(self, found: Round) -> dict[str, float]:
        return present({"first_vs_envoy": divided(found, "seine_pair", "envoy_pair", "first_ms")})


def asked(client: Pod, addresses: list[tuple[str, int]]) -> list[int]:
    """Microseconds to each one's whole answer, one after the other."""
    argv = ["curl", "-s", "--max-time", str(SLACK_S), "-w", "%{http_code} %{time_total}\n"]
    for host, port in addresses:
        argv += ["-o", "/dev/null", f"http://{host}:{port}/"]
    lines = output(client, argv, SLACK_S * 2).splitlines()
    answers = [line.split() for line in lines]
    if wrong := [code for code, _ in answers if code != "200"] or len(answers) != len(addresses):
        raise LoadError(f"curl got other answers than 200: {wrong}: {lines}")
    return [round(float(took) * 1e6) for _, took in answers]
