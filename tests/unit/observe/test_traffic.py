from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mesh.model import Direction, Endpoint, Security, Series, ServicePort, stable_id
from mesh.observe.names import Called, Names
from mesh.observe.traffic import OVERFLOW, Counts, Table, Traffic
from mesh.observe.traffic_metrics import tables
from tests.unit.observe.values import CLIENT, WEB, WEB_1, WEB_2, names, opaque, party, series


def by_pod(limit: int = 100, idle_seconds: float = 600.0) -> Table:
    return Table(lambda flow, _: [(flow.destination.pod,)], limit, idle_seconds)


def requests(table: Table) -> dict[str, int]:
    return {labels[0]: row.counts.requests for labels, row in table.rows.items()}


def test_workers_are_added_up() -> None:
    traffic = Traffic({"pods": by_pod()})
    traffic.observe({0: [series()], 1: [series(), series(endpoint=WEB_2, count=3)]}, names(), 0)
    assert requests(traffic.tables["pods"]) == {"web-1": 20, "web-2": 3}


def test_what_is_seen_twice_counts_once() -> None:
    traffic = Traffic({"pods": by_pod()})
    for moment in range(3):
        traffic.observe({0: [series()]}, names(), moment)
    assert requests(traffic.tables["pods"]) == {"web-1": 10}


def test_with_and_without_a_tunnel_are_two_counters() -> None:
    traffic = Traffic({"pods": by_pod()})
    for moment in range(2):
        traffic.observe({0: [series(), series(count=3, security=Security.MUTUAL_TLS)]}, names(), moment)
    assert requests(traffic.tables["pods"]) == {"web-1": 13}


def test_a_counter_that_begins_anew_is_added() -> None:
    traffic = Traffic({"pods": by_pod()})
    for count in (10, 4):
        traffic.observe({0: [series(count=count)]}, names(), 0)
    assert requests(traffic.tables["pods"]) == {"web-1": 14}


def test_a_worker_that_is_not_listed_keeps_what_it_had() -> None:
    """A counter file that cannot be read once must not be counted twice later."""
    traffic = Traffic({"pods": by_pod()})
    for seen in ({0: [series()]}, {}, {0: [series(count=11)]}):
        traffic.observe(seen, names(), 0)
    assert requests(traffic.tables["pods"]) == {"web-1": 11}


def test_a_deleted_pod_takes_nothing_back() -> None:
    traffic = Traffic({"pods": by_pod()})
    traffic.observe({0: [series()]}, names(), 0)
    traffic.observe({0: [series(count=12)]}, Names(), 1)
    assert requests(traffic.tables["pods"]) == {"web-1": 10, "unknown": 2}


def test_a_series_that_made_room_for_another_takes_nothing_back_and_counts_on_when_it_comes_again() -> None:
    traffic = Traffic({"pods": by_pod()})
    for seen in ([series()], [], [series(count=3)]):
        traffic.observe({0: seen}, names(), 0)
    assert requests(traffic.tables["pods"]) == {"web-1": 13}


def test_beyond_the_limit_all_is_overflow() -> None:
    world = msgspec.structs.replace(names(), parties={n: party(f"web-{n}") for n in range(100, 110)})
    traffic = Traffic({"pods": (table := by_pod(limit=3))})
    traffic.observe({0: [series(endpoint=n) for n in range(100, 110)]}, world, 0)
    assert requests(table) == {"web-100": 10, "web-101": 10, "web-102": 10, OVERFLOW: 70}
    assert table.overflowed == 7


def test_idle_rows_are_forgotten_and_begin_at_zero_again() -> None:
    traffic = Traffic({"pods": (table := by_pod(idle_seconds=600))})
    traffic.observe({0: [series()]}, names(), 0)
    traffic.observe({0: [series()]}, names(), 600)
    assert requests(table) == {"web-1": 10}
    traffic.observe({0: [series()]}, names(), 601)
    assert requests(table) == {}
    traffic.observe({0: [series(count=12)]}, names(), 602)
    assert requests(table) == {"web-1": 2}


def test_connections_of_http_and_of_opaque_traffic_are_not_requests() -> None:
    traffic = Traffic({"all": Table(lambda flow, _: [(flow.series.protocol,)])})
    connection = series(endpoint=0, code=0, count=4, opened=4, closed=4, histogram=(0, 0, 0, 4))
    traffic.observe({0: [connection, opaque()]}, names(), 0)
    counts = {labels[0]: row.counts for labels, row in traffic.tables["all"].rows.items()}
    assert (counts["http1"].requests, counts["http1"].opened, any(counts["http1"].histogram)) == (0, 4, False)
    assert (counts["tcp"].requests, counts["tcp"].opened, counts["tcp"].closed) == (0, 3, 2)


def test_services_show_requests_failures_and_endpoints_also_idle_ones() -> None:
    traffic = Traffic({})
    seen = [
        series(),
        series(code=503, flag="UH", count=2, endpoint=0),
        series(code=404, count=1),
        series(code=0, flag="DC", count=1),
        opaque(endpoint=WEB_1),
    ]
    traffic.observe({0: seen}, names(), 0)
    (db, web), _ = traffic.services(names())
    assert (web.requests, web.failures) == (14, 3)
    assert [(e.pod, e.requests) for e in web.endpoints] == [("web-1", 12), ("web-2", 0)]
    assert (db.name, db.opened, db.closed) == ("db", 3, 2)
    assert [(e.pod, e.connections) for e in db.endpoints] == [("web-1", 3)]


def test_a_service_without_traffic_is_shown() -> None:
    assert [(s.name, s.requests) for s in Traffic({}).services(names())[0]] == [("db", 0), ("web", 0)]


def test_of_very_many_services_those_that_were_used_are_shown_and_the_others_counted(monkeypatch) -> None:
    monkeypatch.setattr("mesh.observe.traffic.SERVICES_TOLD_MAX", 3)
    crowd = {n: Called(namespace="crowd", name=f"svc-{n}") for n in range(100, 105)}
    world = msgspec.structs.replace(names(), services={**crowd, **names().services})
    traffic = Traffic({})
    traffic.observe({0: [series()]}, world, 0)
    told, untold = traffic.services(world)
    assert [each.name for each in told] == ["svc-100", "svc-101", "web"]
    assert untold == 4


def test_an_endpoint_that_is_no_known_workload_is_called_by_its_address() -> None:
    port = ServicePort(port=25, endpoints=(Endpoint(address="192.0.2.7", port=25),))
    outside = Called(namespace="shop", name="mail", ports=(port,))
    world = msgspec.structs.replace(names(), services={WEB: outside})
    traffic = Traffic({"pods": by_pod()})
    traffic.observe({0: [series(endpoint=stable_id("address", "192.0.2.7"))]}, world, 0)
    assert requests(traffic.tables["pods"]) == {"192.0.2.7": 10}


steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([CLIENT, WEB_1, WEB_2, 4]),
        st.sampled_from([200, 503]),
        st.integers(0, 9),
        st.booleans(),
    ),
    max_size=40,
)


@given(steps)
def test_no_sum_ever_goes_backwards_and_none_is_lost(found: list[tuple[int, int, int, int, bool]]) -> None:
    """Whatever workers count and whichever names are known at the time."""
    traffic = Traffic(tables())
    memory: dict[tuple[int, int, int], Series] = {}
    before: dict[tuple[str, tuple[str, ...]], int] = {}
    for moment, (worker, endpoint, code, more, known) in enumerate(found):
        key = (worker, endpoint, code)
        old = memory.get(key, series(endpoint=endpoint, code=code, count=0))
        memory[key] = msgspec.structs.replace(old, count=old.count + more)
        look = {w: [s for (of, _, _), s in memory.items() if of == w] for w in (0, 1)}
        traffic.observe(look, names() if known else Names(), moment)
        tables_now = traffic.tables.items()
        now = {(name, key): row.counts.requests for name, table in tables_now for key, row in table.rows.items()}
        assert all(now[key] >= n for key, n in before.items())
        before = now
    total = sum(s.count for s in memory.values())
    assert sum(n for (table, _), n in before.items() if table == "requests") == total


def test_counts_of_different_shapes_add_up() -> None:
    total = Counts()
    total.add(Counts(requests=1, histogram=[0, 1]))
    total.add(Counts(requests=1, histogram=[1, 0, 1]))
    assert (total.requests, total.histogram) == (2, [1, 1, 1])


def test_inbound_counts_for_the_service_too() -> None:
    traffic = Traffic({})
    traffic.observe({0: [series(source=0, direction=Direction.INBOUND), series(source=CLIENT)]}, names(), 0)
    assert [s.requests for s in traffic.services(names())[0] if s.name == "web"] == [20]
