from __future__ import annotations

import gzip
from itertools import chain

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from mesh.observe import families as f
from mesh.observe import node_metrics, traffic_metrics
from mesh.observe.exposition import Offer, render
from mesh.observe.status import QuicStatus
from mesh.observe.traffic import Traffic
from tests.unit.observe.values import BOUNDS_US, WEB_2, document, names, opaque, series

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
Key = tuple[str, frozenset[tuple[str, str]]]


def offers(istio: bool = True) -> list[Offer]:
    traffic = Traffic(traffic_metrics.tables(istio))
    seen = [series(), series(endpoint=WEB_2, code=503, flag="UC", count=1, histogram=(0, 0, 0, 1)), opaque()]
    seen.append(series(endpoint=0, code=0, count=1, opened=2, closed=1))
    traffic.observe({0: seen, 1: [series()]}, names(), 0)
    return list(
        chain(traffic_metrics.offers(traffic, BOUNDS_US), node_metrics.offers(document(quic=QuicStatus(wanted=True))))
    )


def samples(text: bytes) -> dict[Key, float]:
    found = [s for family in parse_text(text.decode()) for s in family.samples]
    keyed = {(s.name, frozenset(s.labels.items())): s.value for s in found}
    assert len(keyed) == len(found), "a sample is there twice"
    return keyed


def value(found: dict[Key, float], name: str, **labels: str) -> float:
    wanted = frozenset(labels.items())
    (one,) = [v for (sample, has), v in found.items() if sample == name and wanted <= has]
    return one


@pytest.fixture
def page() -> dict[Key, float]:
    return samples(render(offers()).content)


def test_requests(page: dict[Key, float]) -> None:
    assert value(page, "seine_requests_total", destination_pod="web-1", http_response_status_code="200") == 20
    assert value(page, "seine_requests_total", destination_pod="web-2", response_flags="UC") == 1
    assert value(page, "istio_requests_total", reporter="destination", destination_workload="web") == 20
    assert value(page, "istio_requests_total", reporter="source", response_code="503") == 1


def test_durations_are_cumulative_and_in_base_units(page: dict[Key, float]) -> None:
    buckets = {
        le: value(page, "seine_request_duration_seconds_bucket", destination_workload="web", le=le)
        for le in ("0.0001", "0.001", "0.01", "10.0", "+Inf")
    }
    assert buckets == {"0.0001": 10, "0.001": 20, "0.01": 20, "10.0": 20, "+Inf": 21}
    assert value(page, "seine_request_duration_seconds_count", destination_workload="web") == 21
    assert value(page, "seine_request_duration_seconds_sum", destination_workload="web") == pytest.approx(0.015)
    name = "istio_request_duration_milliseconds"
    assert value(page, f"{name}_bucket", reporter="destination", le="1.0") == 20
    assert value(page, f"{name}_sum", reporter="destination") == 10


def test_opaque_traffic_is_tcp_for_istio_and_has_no_duration(page: dict[Key, float]) -> None:
    assert value(page, "istio_tcp_connections_opened_total") == 3
    assert value(page, "istio_tcp_connections_closed_total") == 2
    assert value(page, "istio_tcp_sent_bytes_total") == 2000  # to the client, as Istio says it
    assert value(page, "istio_tcp_received_bytes_total") == 100
    assert not any(("request_protocol", "tcp") in labels for name, labels in page if name == "istio_requests_total")


def test_sizes_have_sum_and_count(page: dict[Key, float]) -> None:
    assert value(page, "istio_response_bytes_sum", reporter="destination") == 4000
    assert value(page, "istio_response_bytes_count", reporter="destination") == 20


def test_connections_of_both_kinds(page: dict[Key, float]) -> None:
    assert value(page, "seine_connections_total", protocol="tcp") == 3
    assert value(page, "seine_connections_open", protocol="tcp") == 1
    assert value(page, "seine_connections_open", protocol="http1") == 1


def test_the_node(page: dict[Key, float]) -> None:
    assert value(page, "seine_pod_state", pod="web-1", state="bypassing") == 1
    assert value(page, "seine_pod_state", pod="web-1", state="captured") == 0
    mine = {"pod": "web-1", "mtls": "strict", "identity": "spiffe://cluster.local/ns/shop/sa/web"}
    assert value(page, "seine_pod_identity_info", **mine) == 1
    assert value(page, "seine_pod_bypassing_connections", pod="web-1") == 3
    assert value(page, "seine_capture_events_total", pod="client-0", reason="captured") == 12
    assert value(page, "seine_socket_stock", pod="web-1", family="ipv4") == 64
    assert (value(page, "seine_worker_up", worker="0"), value(page, "seine_worker_up", worker="1")) == (1, 0)
    assert value(page, "seine_worker_restarts_total", worker="1") == 2
    assert value(page, "seine_source_age_seconds") == 0.2
    assert value(page, "seine_engine_accepted_total", worker="0") == 9
    assert value(page, "seine_engine_connections", worker="1") == 4
    assert value(page, "seine_build_info", version="0.1.0", node="n1") == 1
    assert value(page, "istio_build", component="seine", tag="0.1.0") == 1
    assert ("process_resident_memory_bytes", frozenset()) in page


def test_both_formats_say_the_same() -> None:
    body = render(offers(), OPENMETRICS)
    assert body.content_type.startswith("application/openmetrics-text")
    assert body.content.endswith(b"\n# EOF\n")
    assert body.content.count(b"# EOF") == 1
    strict = {
        (s.name, frozenset(s.labels.items())) for x in parse_openmetrics(body.content.decode()) for s in x.samples
    }
    assert strict == samples(render(offers()).content).keys()


def test_compressed_is_the_same_text() -> None:
    wanted = ["istio_requests_total", "seine_worker_up"]
    plain, packed = render(offers(), names=wanted), render(offers(), names=wanted, compress=True)
    assert gzip.decompress(packed.content) == plain.content
    assert packed.encoding == "gzip"


@pytest.mark.parametrize(
    ("asked", "families"),
    [
        (["istio_requests_total"], {"istio_requests"}),
        (["seine_request_duration_seconds_bucket"], {"seine_request_duration_seconds"}),
        (["seine_worker_up", "process_cpu_seconds_total"], {"seine_worker_up", "process_cpu_seconds"}),
        (["nothing_of_ours"], set()),
    ],
)
def test_only_what_is_asked_for(asked: list[str], families: set[str]) -> None:
    assert {family.name for family in parse_text(render(offers(), names=asked).content.decode())} == families


def test_istios_metrics_can_be_left_out() -> None:
    assert not [name for name, _ in samples(render(offers(istio=False)).content) if name.startswith("istio_requests")]


def test_every_declared_family_is_exposed() -> None:
    declared = {family.name for family in vars(f).values() if isinstance(family, f.Family)}
    assert {family.name for family, _ in offers() if not family.name.startswith("seine_engine_")} == declared
