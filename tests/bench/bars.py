"""The speed and size to reach, as data, and the one rule that decides whether a bar is met. Pure.

Rule: a bar is met when the median meets it and the worse quartile misses it by no more than 10 %.
Source of the numbers: README.md, "Speed and size". What was not measured is neither met nor missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tests.bench.stats import Spread

TOLERANCE = 0.10  # of the limit, for the worse quartile only


class Side(StrEnum):
    AT_MOST = "<="
    AT_LEAST = ">="


@dataclass(frozen=True)
class Bar:
    """`key` is the name in the JSON line; `what` one clause for the table."""

    key: str
    side: Side
    limit: float
    what: str

    def met(self, found: Spread | None) -> bool | None:
        if found is None:
            return None
        if self.side is Side.AT_MOST:
            return found.median <= self.limit and found.high <= self.limit * (1 + TOLERANCE)
        return found.median >= self.limit and found.low >= self.limit * (1 - TOLERANCE)


HTTP1 = (
    Bar("cpu_vs_haproxy", Side.AT_MOST, 0.95, "process CPU per request, Seine / HAProxy"),
    Bar("cpu_vs_envoy", Side.AT_MOST, 0.4, "process CPU per request, Seine / Envoy"),
    Bar("rps_vs_envoy", Side.AT_LEAST, 2.4, "requests/s, Seine / Envoy"),
    Bar("shortcut_rps_vs_direct", Side.AT_LEAST, 0.65, "requests/s, Seine with short-cut / direct"),
    Bar("added_p50_vs_envoy", Side.AT_MOST, 0.5, "median latency added at the fixed rate, Seine / Envoy"),
    Bar("kernel_rps_vs_direct", Side.AT_LEAST, 1.5, "requests/s, short-cut without proxy / direct"),
)
TCP = (Bar("bulk_vs_haproxy", Side.AT_LEAST, 1.0, "opaque bytes/s, Seine / HAProxy TCP mode"),)
CONNECT = (Bar("conns_vs_envoy", Side.AT_LEAST, 1.5, "new connections/s, Seine / Envoy"),)
MTLS = (
    Bar("cpu_vs_haproxy", Side.AT_MOST, 0.45, "CPU per request of both proxies over mutual TLS, Seine / HAProxy pair"),
    Bar("cpu_vs_envoy", Side.AT_MOST, 0.18, "CPU per request of both proxies over mutual TLS, Seine / Envoy pair"),
    Bar("rps_vs_haproxy", Side.AT_LEAST, 1.8, "requests/s over mutual TLS, Seine / HAProxy pair"),
    Bar("added_p50_vs_envoy", Side.AT_MOST, 0.35, "median latency added at the fixed rate, Seine / Envoy pair"),
)
MTLS_BULK = (
    Bar("bulk_vs_haproxy", Side.AT_LEAST, 1.0, "opaque bytes/s over mutual TLS, Seine / HAProxy pair in TCP mode"),
    Bar("small_p50_vs_haproxy", Side.AT_MOST, 0.2, "median of small requests beside bulk, Seine / HAProxy pair"),
)
HANDSHAKE = (Bar("first_vs_envoy", Side.AT_MOST, 1.0, "first request to a new destination, Seine / Envoy pair"),)
QUIC = (Bar("p99_vs_hbone_loss3", Side.AT_MOST, 0.7, "p99 of small requests, 3 % lost, 20 ms away: QUIC / HBONE"),)
MEMORY = (
    Bar("idle_mib", Side.AT_MOST, 150, "PSS of agent and workers, idle, MiB"),
    Bar("per_connection_kib", Side.AT_MOST, 16, "per idle captured connection beyond direct, KiB"),
)
SCALE = (
    Bar("sync_s", Side.AT_MOST, 30, "cold start to the first correct routing, s"),
    Bar("agent_mib", Side.AT_MOST, 250, "agent and its helpers resident after it, MiB"),
    Bar("worker_mib", Side.AT_MOST, 80, "a worker resident after it, MiB"),
    Bar("change_p99_ms", Side.AT_MOST, 250, "endpoint change written to its effect on traffic, 200/s, p99 ms"),
    Bar("agent_core", Side.AT_MOST, 0.5, "the agent's CPU meanwhile, cores"),
    Bar("outage_failed", Side.AT_MOST, 0, "failed requests while the API server was away for a minute"),
    Bar("relist_count", Side.AT_MOST, 1, "full lists of one kind when it was back"),
    Bar("idle_requests_per_min", Side.AT_MOST, 5, "API requests of an idle agent, per minute"),
)
