from __future__ import annotations

import pytest

from mesh.observe.rates import rates
from mesh.observe.status import EndpointStatus, ServiceStatus, StatusDocument
from tests.unit.observe.values import document, service


def at(moment: float, found: ServiceStatus, pid: int = 77) -> StatusDocument:
    return document(taken_at=moment, services=(found,), pid=pid)


def ends(**requests: int) -> tuple[EndpointStatus, ...]:
    return tuple(EndpointStatus(namespace="shop", pod=pod, requests=n) for pod, n in requests.items())


def test_rates_are_differences() -> None:
    before = at(100, service(opened=5, closed=3, request_bytes=10, endpoints=ends(a=6, b=4)))
    after = service(
        requests=110,
        failures=6,
        opened=9,
        closed=3,
        request_bytes=1010,
        histogram=(5, 105, 0, 0),
        endpoints=ends(a=36, b=74),
    )
    (found,) = rates(at(102, after), before)
    assert (found.requests, found.failures, found.connections, found.open) == (100, 5, 4, 6)
    assert (found.requests_per_second, found.bytes_per_second, found.success) == (50, 500, 0.95)
    assert found.p50_ms == pytest.approx(0.55)
    assert [(share.pod, share.fraction) for share in found.shares] == [("a", 0.3), ("b", 0.7)]


def test_without_an_earlier_document_there_are_totals_and_no_rates() -> None:
    (found,) = rates(at(100, service()))
    assert (found.requests, found.requests_per_second, found.success) == (10, None, 0.9)


def test_a_new_agent_begins_anew() -> None:
    (found,) = rates(at(102, service(requests=4), pid=78), at(100, service(requests=10)))
    assert (found.requests, found.requests_per_second) == (4, None)


def test_an_idle_service_has_no_success_rate_and_no_latency() -> None:
    (found,) = rates(at(102, service()), at(100, service()))
    assert (found.requests_per_second, found.success, found.p50_ms) == (0, None, None)


def test_a_service_that_is_new_counts_from_zero() -> None:
    before = document(taken_at=100.0)
    (found,) = rates(at(102, service()), before)
    assert found.requests_per_second == 5


def test_shares_of_opaque_traffic_are_of_connections() -> None:
    both = tuple(EndpointStatus(namespace="shop", pod=pod, connections=n) for pod, n in (("a", 1), ("b", 3)))
    (found,) = rates(at(102, service(requests=0, failures=0, histogram=(), endpoints=both)))
    assert [share.fraction for share in found.shares] == [0.25, 0.75]
