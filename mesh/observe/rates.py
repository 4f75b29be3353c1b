"""What happened between two status documents.

Differences of totals, so whoever asks chooses the window. Without an earlier document, or when the agent was
replaced between the two, the window has no length: counts and quantiles are those of the whole life, rates unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mesh.model import Value
from mesh.observe.quantile import quantile
from mesh.observe.status import EndpointStatus, ServiceStatus, StatusDocument

_NOTHING = ServiceStatus(namespace="", name="")


class Share(msgspec.Struct, frozen=True):
    """`fraction` of the requests, or of the connections where there were no requests."""

    namespace: str
    pod: str
    fraction: float
    requests: int
    connections: int


class ServiceRates(Value, frozen=True):
    namespace: str
    name: str
    requests: int  # in the window
    failures: int
    connections: int  # opened in the window
    open: int  # at its end
    requests_per_second: float | None = None
    bytes_per_second: float | None = None  # both ways
    success: float | None = None  # 0..1; None: no requests
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    shares: tuple[Share, ...] = ()


def _shares(now: Sequence[EndpointStatus], before: Sequence[EndpointStatus]) -> tuple[Share, ...]:
    old = {(e.namespace, e.pod): e for e in before}
    none = EndpointStatus(namespace="", pod="")
    moved = [
        (e, e.requests - (was := old.get((e.namespace, e.pod), none)).requests, e.connections - was.connections)
        for e in now
    ]
    requests, connections = sum(r for _, r, _ in moved), sum(c for _, _, c in moved)
    return tuple(
        Share(e.namespace, e.pod, r / requests if requests else c / connections if connections else 0.0, r, c)
        for e, r, c in moved
    )


def _service(now: ServiceStatus, was: ServiceStatus, bounds_us: Sequence[int], seconds: float | None) -> ServiceRates:
    requests, failures = now.requests - was.requests, now.failures - was.failures
    old = was.histogram or (0,) * len(now.histogram)
    histogram = [n - o for n, o in zip(now.histogram, old, strict=True)]
    carried = now.request_bytes + now.response_bytes - was.request_bytes - was.response_bytes

    def at(q: float) -> float | None:
        found = quantile(histogram, bounds_us, q) if bounds_us else None
        return None if found is None else found / 1000

    return ServiceRates(
        namespace=now.namespace,
        name=now.name,
        requests=requests,
        failures=failures,
        connections=now.opened - was.opened,
        open=max(0, now.opened - now.closed),
        requests_per_second=requests / seconds if seconds else None,
        bytes_per_second=carried / seconds if seconds else None,
        success=1 - failures / requests if requests else None,
        p50_ms=at(0.50),
        p95_ms=at(0.95),
        p99_ms=at(0.99),
        shares=_shares(now.endpoints, was.endpoints),
    )


def rates(now: StatusDocument, before: StatusDocument | None = None) -> tuple[ServiceRates, ...]:
    if before is not None and (before.pid, before.node) != (now.pid, now.node):
        before = None
    seconds = now.taken_at - before.taken_at if before else None
    old = {(s.namespace, s.name): s for s in before.services} if before else {}
    return tuple(
        _service(service, old.get((service.namespace, service.name), _NOTHING), now.latency_bounds_us, seconds)
        for service in now.services
    )
