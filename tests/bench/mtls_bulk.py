"""Bytes between two nodes over mutual TLS, alone and beside small requests.

First as tcp does it, a few streams at once. Then one stream that never ends, and beside it small HTTP requests on eight
kept connections between the same two pods: what bulk does to everybody else who goes the same way. They come at a fixed
rate, each connection's share alike: driven as fast as it goes, those that share no thread with the stream would make
most of the requests, and the median would be theirs alone (seen: HAProxy 1 ms, where the others waited 49).
"""

from __future__ import annotations

import json

from tests.bench import bars
from tests.bench.bench import Bench, Column, Round, divided, present
from tests.bench.load import SLACK_S, LoadError, h2load
from tests.bench.measure import Sample, proven, running
from tests.bench.peer import Mode, Peer
from tests.bench.tcp import bulk, drinking
from tests.kit.wait import eventually

SMALL_CONNECTIONS = 8
SMALL_RATE = 160.0  # requests/s of all: one per connection every 50 ms, which the slowest peer's median is below
STREAM_LONGER_S = 3  # than the small requests: it begins before them and ends after them


class MtlsBulk(Bench):
    name = "mtls-bulk"
    peers = ("direct", "seine_pair", "haproxy_pair")
    quick_peers = peers
    modes = (Mode.MIXED,)
    nodes = 2
    bars = bars.MTLS_BULK
    columns = (
        Column("bytes_per_s", "MB/s, alone", 1e6),
        Column("process_us_per_mb", "process us/MB, alone"),
        Column("small_p50_us", "p50 us, small beside bulk"),
        Column("small_p99_us", "p99 us, small beside bulk"),
        Column("beside_bytes_per_s", "MB/s, bulk beside small", 1e6),
    )

    def __init__(self, quick: bool) -> None:
        super().__init__(quick)
        self.seconds = 1 if quick else 4

    def turn(self, peer: Peer) -> Sample:
        with running(peer):
            alone = bulk(peer, self.seconds)
            return alone | self._beside(peer)

    def _beside(self, peer: Peer) -> Sample:
        """Small requests while one stream runs from before their first to after their last."""
        host, port = peer.web_address()
        url, log, client = f"http://{host}:{port}/", peer.place.directory / "h2load.log", peer.place.client
        before = peer.carried()
        stream = client.popen(drinking(peer, 1, self.seconds + STREAM_LONGER_S))
        try:
            eventually(lambda: peer.carried() > before or not stream.alive, "the stream", SLACK_S)
            small = h2load(client, url, self.seconds, rate=SMALL_RATE, log=log, connections=SMALL_CONNECTIONS)
            if not stream.alive:
                raise LoadError(f"the stream ended before the small requests did: {stream.output()[-300:]}")
            stream.wait(SLACK_S)
            moved = json.loads(stream.output())
            proven(peer, before, 1 + SMALL_CONNECTIONS, SMALL_CONNECTIONS)
        finally:
            stream.stop()
        rate = moved["bytes"] / moved["seconds"]
        return {"small_p50_us": small.p50_us, "small_p99_us": small.p99_us, "beside_bytes_per_s": rate}

    def ratios(self, found: Round) -> dict[str, float]:
        return present(
            {
                "bulk_vs_haproxy": divided(found, "seine_pair", "haproxy_pair", "bytes_per_s"),
                "small_p50_vs_haproxy": divided(found, "seine_pair", "haproxy_pair", "small_p50_us"),
            }
        )
