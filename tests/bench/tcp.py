"""Opaque TCP: bytes per second from a source in the server's pod to a client, over a few connections at once."""

from __future__ import annotations

import json
import sys

from tests.bench import bars
from tests.bench.app import ROOT
from tests.bench.bench import Bench, Column, Round, divided, present
from tests.bench.load import SLACK_S, Load, output
from tests.bench.measure import Sample, costed, running
from tests.bench.peer import Mode, Peer

STREAMS = 4  # two per proxy thread


def drinking(peer: Peer, connections: int, seconds: float) -> list[str]:
    """The client's command."""
    host, port = peer.address()
    argv = [sys.executable, str(ROOT / "tests/bench/stream.py"), "drink", host, str(port)]
    return [*argv, str(connections), str(seconds)]


def bulk(peer: Peer, seconds: float) -> Sample:
    """Of a running peer."""
    moved = {"bytes": 0.0, "seconds": 1.0}

    def drive() -> Load:
        argv = drinking(peer, STREAMS, seconds)
        moved.update(json.loads(output(peer.place.client, argv, seconds + SLACK_S)))
        return Load(STREAMS, moved["seconds"], 0, 0)

    _, cost = costed(peer, drive, 0)
    megabytes = moved["whole_bytes"] / 1e6
    return {
        "bytes_per_s": moved["bytes"] / moved["seconds"],
        "process_us_per_mb": cost.process_us * STREAMS / megabytes,
        "busy_us_per_mb": cost.busy_us * STREAMS / megabytes,
    }


class Tcp(Bench):
    name = "tcp"
    peers = ("envoy", "direct", "seine", "haproxy", "haproxy_64k", "seine_shortcut")
    modes = (Mode.TCP,)
    bars = bars.TCP
    columns = (
        Column("bytes_per_s", "MB/s", 1e6),
        Column("process_us_per_mb", "process us/MB"),
        Column("busy_us_per_mb", "machine us/MB"),
    )

    def __init__(self, quick: bool) -> None:
        super().__init__(quick)
        self.seconds = 1 if quick else 4

    def turn(self, peer: Peer) -> Sample:
        with running(peer):
            return bulk(peer, self.seconds)

    def ratios(self, found: Round) -> dict[str, float]:
        return present({"bulk_vs_haproxy": divided(found, "seine", "haproxy", "bytes_per_s")})
