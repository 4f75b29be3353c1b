"""HTTP/1.1 between two nodes, over mutual TLS: as http1, with the CPU of both ends' proxies summed.

The application sees one hop more than in http1: client, near proxy, wire, far proxy, server. `direct` is the same way
without proxies and without TLS.
"""

from __future__ import annotations

from tests.bench import bars
from tests.bench.bench import Round, divided, present
from tests.bench.http1 import Http1, added


class Mtls(Http1):
    name = "mtls"
    peers = ("envoy_pair", "direct", "seine_pair", "haproxy_pair")
    quick_peers = peers
    nodes = 2
    bars = bars.MTLS

    def ratios(self, found: Round) -> dict[str, float]:
        return present(
            {
                "cpu_vs_haproxy": divided(found, "seine_pair", "haproxy_pair", "process_us"),
                "cpu_vs_envoy": divided(found, "seine_pair", "envoy_pair", "process_us"),
                "rps_vs_haproxy": divided(found, "seine_pair", "haproxy_pair", "rps"),
                "added_p50_vs_envoy": added(found, "seine_pair", "envoy_pair"),
            }
        )
