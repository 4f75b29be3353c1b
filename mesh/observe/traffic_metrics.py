"""The tables of mesh.observe.traffic as metric families."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mesh.observe import families as f
from mesh.observe.exposition import Distribution, Offer, Samples, plain
from mesh.observe.projections import connection, edge, istio, request
from mesh.observe.quantile import rebucket
from mesh.observe.traffic import OVERFLOW, Counts, Table, Traffic

Value = Callable[[Counts], float]


def tables(istio_too: bool = True) -> dict[str, Table]:
    ours = {"requests": Table(request), "edges": Table(edge), "connections": Table(connection)}
    return ours | {"istio": Table(istio())} if istio_too else ours


def _of(table: Table, value: Value) -> Callable[[], Samples]:
    return lambda: ((labels, value(row.counts)) for labels, row in table.rows.items())


def _durations(table: Table, fine_us: Sequence[float], bounds_us: Sequence[float], unit_us: float) -> Distribution:
    return Distribution(
        [bound / unit_us for bound in bounds_us],
        lambda: (
            (labels, rebucket(row.counts.histogram, fine_us, bounds_us), row.counts.duration_us / unit_us)
            for labels, row in table.rows.items()
            if row.counts.requests
        ),
    )


def _ours(traffic: Traffic, fine_us: Sequence[float]) -> Iterator[Offer]:
    edges, connections = traffic.tables["edges"], traffic.tables["connections"]
    yield f.REQUESTS, plain(_of(traffic.tables["requests"], lambda c: c.requests))
    yield f.DURATION, _durations(edges, fine_us, f.DURATION_BOUNDS_US, 1e6)
    yield f.REQUEST_BYTES, plain(_of(edges, lambda c: c.request_bytes))
    yield f.RESPONSE_BYTES, plain(_of(edges, lambda c: c.response_bytes))
    yield f.CONNECTIONS, plain(_of(connections, lambda c: c.opened))
    yield f.CONNECTIONS_OPEN, plain(_of(connections, lambda c: max(0, c.opened - c.closed)))


_PROTOCOL = f.ISTIO.index("request_protocol")


def _istio_http(table: Table) -> Callable[[], Samples]:
    return lambda: ((labels, row.counts.requests) for labels, row in table.rows.items() if labels[_PROTOCOL] != "tcp")


def _istio_sizes(table: Table, value: Value) -> Distribution:
    """Sum and count: the engine keeps no histogram of sizes, and Kiali's throughput reads only the sum."""
    return Distribution(
        [],
        lambda: (
            (labels, [row.counts.requests], value(row.counts))
            for labels, row in table.rows.items()
            if row.counts.requests
        ),
    )


def _istio_tcp(table: Table, value: Value) -> Callable[[], Samples]:
    """Without the last label, the response code."""
    return lambda: (
        (labels[:-1], value(row.counts)) for labels, row in table.rows.items() if labels[_PROTOCOL] in ("tcp", OVERFLOW)
    )


def _istio(table: Table, fine_us: Sequence[float]) -> Iterator[Offer]:
    yield f.ISTIO_REQUESTS, plain(_istio_http(table))
    yield f.ISTIO_DURATION, _durations(table, fine_us, [bound * 1000 for bound in f.ISTIO_BOUNDS_MS], 1e3)
    yield f.ISTIO_REQUEST_BYTES, _istio_sizes(table, lambda c: c.request_bytes)
    yield f.ISTIO_RESPONSE_BYTES, _istio_sizes(table, lambda c: c.response_bytes)
    yield f.ISTIO_TCP_OPENED, plain(_istio_tcp(table, lambda c: c.opened))
    yield f.ISTIO_TCP_CLOSED, plain(_istio_tcp(table, lambda c: c.closed))
    yield f.ISTIO_TCP_SENT, plain(_istio_tcp(table, lambda c: c.response_bytes))
    yield f.ISTIO_TCP_RECEIVED, plain(_istio_tcp(table, lambda c: c.request_bytes))


def offers(traffic: Traffic, fine_us: Sequence[float]) -> Iterator[Offer]:
    """`fine_us`: the upper bounds of the engine's latency buckets."""
    yield from _ours(traffic, fine_us)
    if (table := traffic.tables.get("istio")) is not None:
        yield from _istio(table, fine_us)
    kept = traffic.tables.items()
    yield f.ROWS, plain(lambda: (((name,), len(table.rows)) for name, table in kept))
    yield f.OVERFLOWED, plain(lambda: (((name,), table.overflowed) for name, table in kept))
