"""The workers' series, summed by name.

The engine's counters only grow, but names come and go: a pod is deleted, an unknown address becomes a workload. So
what is added up here is *differences*, each under the names valid when it was seen; no sum ever goes backwards,
which is what Prometheus' rate() rests on. A counter that did go backwards has begun anew, and counts in full.
Everything is bounded: rows beyond a table's limit are added to one row named "overflow", and rows that nothing
touched for ten minutes (Linkerd's figure) are forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import sub

import msgspec

from mesh.model import Direction, Security, Series
from mesh.observe.names import NO_SERVICE, NOBODY, Called, Names, Party
from mesh.observe.status import EndpointStatus, ServiceStatus

ROWS_MAX = 2000  # per table; a row of HTTP is up to 25 lines of text, and a line costs 30-60 us to render
IDLE_SECONDS = 600.0
SERVICES_TOLD_MAX = 1000  # in one document; of more, those that nobody called are left out first
OVERFLOW = "overflow"

HTTP = frozenset({"http", "http1"})  # whose requests the engine sees; all else is carried as opaque connections

Labels = tuple[str, ...]


class Counts(msgspec.Struct):
    """Sums, or the difference of two looks at one series."""

    requests: int = 0
    opened: int = 0
    closed: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    duration_us: int = 0
    histogram: list[int] = []

    def add(self, other: Counts) -> None:
        self.requests += other.requests
        self.opened += other.opened
        self.closed += other.closed
        self.request_bytes += other.request_bytes
        self.response_bytes += other.response_bytes
        self.duration_us += other.duration_us
        if not any(other.histogram):
            return
        if len(self.histogram) < len(other.histogram):
            self.histogram += [0] * (len(other.histogram) - len(self.histogram))
        for index, count in enumerate(other.histogram):
            self.histogram[index] += count


class Flow(msgspec.Struct, frozen=True):
    """One series' meaning."""

    source: Party
    service: Called
    destination: Party
    series: Series

    @property
    def http(self) -> bool:
        return self.series.protocol in HTTP

    @property
    def flag(self) -> str:
        """Envoy's response flag; empty when there is nothing to say."""
        return self.series.flag.strip("-")

    @property
    def proven(self) -> bool:
        """Both ends have proven who they are: by mutual TLS, or to the kernel, whose sockets they were."""
        local = self.series.direction is Direction.OUTBOUND and self.source.enrolled and self.destination.enrolled
        return local or self.series.security is Security.MUTUAL_TLS

    @property
    def failed(self) -> bool:
        return self.http and not 0 < self.series.code < 500


class Row(msgspec.Struct):
    counts: Counts
    touched: float


class Table:
    """Counts by label values; `project` says under which a flow's difference is counted, possibly several or none."""

    def __init__(
        self,
        project: Callable[[Flow, Counts], Iterable[Labels]],
        rows_max: int = ROWS_MAX,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._project, self._rows_max, self._idle_seconds = project, rows_max, idle_seconds
        self.rows: dict[Labels, Row] = {}
        self.overflowed = 0

    def add(self, flow: Flow, counts: Counts, now: float) -> None:
        for labels in self._project(flow, counts):
            row = self.rows.get(labels) or self._new(labels, now)
            row.counts.add(counts)
            row.touched = now

    def _new(self, labels: Labels, now: float) -> Row:
        if len(self.rows) >= self._rows_max:
            self.overflowed += 1
            labels = (OVERFLOW,) * len(labels)
        return self.rows.setdefault(labels, Row(Counts(), now))

    def expire(self, now: float) -> None:
        for labels in [key for key, row in self.rows.items() if now - row.touched > self._idle_seconds]:
            del self.rows[labels]


def _by_service(flow: Flow, counts: Counts) -> Iterable[Labels]:
    yield flow.service.namespace, flow.service.name, "failed" if flow.failed else "ok"


def _by_endpoint(flow: Flow, counts: Counts) -> Iterable[Labels]:
    if flow.series.endpoint:
        yield flow.service.namespace, flow.service.name, flow.destination.namespace, flow.destination.pod


Key = tuple[int, int, int, int, int, str, int, str, str]


def _key(worker: int, s: Series) -> Key:
    return (worker, s.source, s.service, s.endpoint, s.direction, s.protocol, s.code, s.flag, s.security)


def _requests(s: Series) -> bool:
    """Whether `count` means requests. A request without a response has a flag; without one it is the connection."""
    return s.protocol in HTTP and (s.code != 0 or s.flag not in ("", "-"))


def difference(new: Series, old: Series | None) -> Counts:
    """What happened between two looks; all of `new` when it is smaller than `old` or the first."""
    if old is None or new.count < old.count or new.opened < old.opened or new.closed < old.closed:
        old = msgspec.structs.replace(
            new, count=0, opened=0, closed=0, request_bytes=0, response_bytes=0, duration_us_sum=0, histogram=()
        )
    counts = Counts(
        opened=new.opened - old.opened,
        closed=new.closed - old.closed,
        request_bytes=max(0, new.request_bytes - old.request_bytes),
        response_bytes=max(0, new.response_bytes - old.response_bytes),
    )
    if _requests(new):
        counts.requests = new.count - old.count
        counts.duration_us = max(0, new.duration_us_sum - old.duration_us_sum)
        before = old.histogram or (0,) * len(new.histogram)
        counts.histogram = [max(0, n) for n in map(sub, new.histogram, before)]
    return counts


class Traffic:
    """The sums of a node. `tables` are the projections that somebody renders; two more feed the status document."""

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.tables = dict(tables)
        self._services = Table(_by_service, idle_seconds=math.inf)
        self._endpoints = Table(_by_endpoint)
        self._last: dict[int, dict[Key, Series]] = {}
        self._behind: dict[int, dict[int, Party]] = {}  # by service id, while one look is taken in

    def observe(self, series: Mapping[int, Sequence[Series]], names: Names, now: float) -> None:
        """Take in a look at every worker's counters. A worker that is not listed keeps what it had."""
        self._behind.clear()
        for worker, listed in series.items():
            last = self._last.get(worker, {})
            self._last[worker] = {_key(worker, s): s for s in listed}
            for key, new in self._last[worker].items():
                old = last.get(key)
                if new != old:
                    self._add(new, difference(new, old), names, now)
        for table in (*self.tables.values(), self._endpoints):
            table.expire(now)

    def _add(self, series: Series, counts: Counts, names: Names, now: float) -> None:
        source = names.parties.get(series.source, NOBODY)
        service = names.services.get(series.service, NO_SERVICE)
        destination = names.parties.get(series.endpoint) or self._stranger(series, service)
        flow = Flow(source, service, destination, series)
        for table in (*self.tables.values(), self._services, self._endpoints):
            table.add(flow, counts, now)

    def _stranger(self, series: Series, service: Called) -> Party:
        """An endpoint of which no more is known than its Service says."""
        if not series.endpoint:
            return NOBODY
        if series.service not in self._behind:
            self._behind[series.service] = service.endpoints()
        return self._behind[series.service].get(series.endpoint, NOBODY)

    def services(self, names: Names) -> tuple[tuple[ServiceStatus, ...], int]:
        """Every service that has been used or is declared, with every endpoint that is declared or was used lately;
        and how many that nobody used are left out."""
        declared = {(called.namespace, called.name): called for called in names.services.values()}
        used = {(namespace, name) for namespace, name, _ in self._services.rows}
        idle = sorted(declared.keys() - used)
        told = idle[: max(0, SERVICES_TOLD_MAX - len(used))]
        found = (declared.get(key) or Called(namespace=key[0], name=key[1]) for key in sorted({*used, *told}))
        return tuple(self._service(called, names) for called in found), len(idle) - len(told)

    def _service(self, called: Called, names: Names) -> ServiceStatus:
        total, failures = Counts(), 0
        for outcome in ("ok", "failed"):
            if row := self._services.rows.get((called.namespace, called.name, outcome)):
                total.add(row.counts)
                failures += row.counts.requests if outcome == "failed" else 0
        return ServiceStatus(
            namespace=called.namespace,
            name=called.name,
            requests=total.requests,
            failures=failures,
            opened=total.opened,
            closed=total.closed,
            request_bytes=total.request_bytes,
            response_bytes=total.response_bytes,
            duration_us=total.duration_us,
            histogram=tuple(total.histogram),
            endpoints=self._endpoints_of(called, names),
        )

    def _endpoints_of(self, called: Called, names: Names) -> tuple[EndpointStatus, ...]:
        declared = (names.parties.get(id, party) for id, party in called.endpoints().items())
        found = {(party.namespace, party.pod): Counts() for party in declared}
        for (namespace, name, *pod), row in self._endpoints.rows.items():
            if (namespace, name) == (called.namespace, called.name):
                found[(pod[0], pod[1])] = row.counts
        return tuple(
            EndpointStatus(namespace=namespace, pod=pod, requests=counts.requests, connections=counts.opened)
            for (namespace, pod), counts in sorted(found.items())
        )
