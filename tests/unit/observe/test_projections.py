"""Istio's view: who reports what, and that every label Kiali needs is there."""

from __future__ import annotations

from mesh.model import Direction, Security, Series
from mesh.observe import families as f
from mesh.observe.names import NO_SERVICE, NOBODY
from mesh.observe.projections import connection, edge, istio, request
from mesh.observe.traffic import Counts, Flow, difference
from tests.unit.observe.values import CLIENT, WEB_1, WEB_2, names, opaque, series

# What kiali/graph/telemetry/istio/istio.go skips a series for, when one is missing.
KIALI = {
    "source_workload_namespace",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "destination_service_namespace",
    "destination_service",
    "destination_service_name",
    "destination_workload_namespace",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "response_flags",
}


def flow_of(s: Series) -> Flow:
    known = names()
    parties = (known.parties.get(id, NOBODY) for id in (s.source, s.endpoint))
    source, destination = parties
    return Flow(source, known.services.get(s.service, NO_SERVICE), destination, s)


def reported(s: Series) -> list[dict[str, str]]:
    return [dict(zip(f.ISTIO, labels, strict=True)) for labels in istio()(flow_of(s), difference(s, None))]


def test_kialis_labels_are_all_there() -> None:
    assert set(f.ISTIO) >= KIALI | {"request_protocol", "response_code", "reporter"}
    assert set(f.ISTIO_TCP) >= KIALI | {"reporter"}
    assert f.ISTIO[:-1] == f.ISTIO_TCP


def test_one_hop_to_a_pod_of_this_node_is_reported_by_both_sides() -> None:
    assert [r["reporter"] for r in reported(series())] == ["source", "destination"]


def test_a_request_that_leaves_the_node_is_reported_by_its_source_only() -> None:
    assert [r["reporter"] for r in reported(series(endpoint=WEB_2))] == ["source"]


def test_a_request_from_outside_is_reported_by_its_destination_and_comes_from_unknown() -> None:
    (only,) = reported(series(source=0, direction=Direction.INBOUND))
    assert only["reporter"] == "destination"
    assert {only[f"source_{of}"] for of in ("workload", "workload_namespace", "app", "cluster")} == {"unknown"}


def test_labels_of_a_request() -> None:
    source, destination = reported(series(code=503, flag="UC"))
    assert source | {"reporter": "destination", "connection_security_policy": "none"} == destination
    assert destination == {
        "reporter": "destination",
        "source_workload": "client",
        "source_workload_namespace": "shop",
        "source_canonical_service": "client",
        "source_canonical_revision": "v1",
        "source_principal": "spiffe://cluster.local/ns/shop/sa/client",
        "source_app": "client",
        "source_version": "v1",
        "source_cluster": "Kubernetes",
        "destination_service": "web.shop.svc.cluster.local",
        "destination_service_name": "web",
        "destination_service_namespace": "shop",
        "destination_workload": "web",
        "destination_workload_namespace": "shop",
        "destination_canonical_service": "web",
        "destination_canonical_revision": "v1",
        "destination_principal": "spiffe://cluster.local/ns/shop/sa/web",
        "destination_app": "web",
        "destination_version": "v1",
        "destination_cluster": "Kubernetes",
        "request_protocol": "http",
        "response_flags": "UC",
        "connection_security_policy": "none",
        "response_code": "503",
    }


def security(s: Series) -> list[tuple[str, ...]]:
    """Reporter, policy, and the service accounts of the two principals."""
    return [
        (
            r["reporter"],
            r["connection_security_policy"],
            *(r[f"{end}_principal"].rpartition("/")[2] for end in ("source", "destination")),
        )
        for r in reported(s)
    ]


def test_between_two_pods_of_a_node_both_are_proven_and_nothing_is_encrypted() -> None:
    assert security(series()) == [("source", "unknown", "client", "web"), ("destination", "none", "client", "web")]


def test_a_tunnel_is_told_by_the_servers_side_and_proves_both() -> None:
    tunnel = Security.MUTUAL_TLS
    assert security(series(endpoint=WEB_2, security=tunnel)) == [("source", "unknown", "client", "web")]
    arrived = series(direction=Direction.INBOUND, security=tunnel)
    assert security(arrived) == [("destination", "mutual_tls", "client", "web")]
    nobody = series(source=0, direction=Direction.INBOUND, security=tunnel)
    assert security(nobody) == [("destination", "mutual_tls", "unknown", "web")]


def test_a_tunnel_within_a_node_is_reported_once_by_each_end() -> None:
    tunnel = Security.MUTUAL_TLS
    assert [r[0] for r in security(series(security=tunnel))] == ["source"]
    assert [r[0] for r in security(series(direction=Direction.INBOUND, security=tunnel))] == ["destination"]


def test_plaintext_proves_nobody() -> None:
    """An address is no proof."""
    assert security(series(endpoint=WEB_2)) == [("source", "unknown", "unknown", "unknown")]
    assert security(series(direction=Direction.INBOUND)) == [("destination", "none", "unknown", "unknown")]
    assert security(opaque(endpoint=0))[0][2:] == ("unknown", "unknown")


def test_a_request_that_reached_no_endpoint_still_names_its_service() -> None:
    (only,) = reported(series(endpoint=0, code=503, flag="UH"))
    assert (only["destination_service_namespace"], only["destination_workload"]) == ("shop", "unknown")
    assert only["destination_cluster"] == "Kubernetes"  # Kiali drops a known service of an unknown cluster


def test_a_pod_addressed_without_its_service_belongs_to_its_own_namespace() -> None:
    source, _ = reported(series(service=0))
    assert (source["destination_service_name"], source["destination_service_namespace"]) == ("unknown", "shop")


def test_opaque_traffic_of_any_protocol_is_tcp() -> None:
    for protocol in ("tcp", "tls", "http2"):
        labels = reported(opaque(protocol=protocol, endpoint=WEB_1))[0]
        assert (labels["request_protocol"], labels["response_code"], labels["response_flags"]) == ("tcp", "0", "-")


def test_an_http_connection_is_no_traffic_of_istios() -> None:
    assert reported(series(endpoint=0, code=0, count=1, opened=1, closed=1)) == []


def test_our_own_labels_match_their_families() -> None:
    flow = flow_of(series(source=CLIENT))
    everything = Counts(requests=1, opened=1)
    for project, labels in ((request, f.REQUEST), (edge, f.EDGE), (connection, f.CONNECTION)):
        assert [len(found) for found in project(flow, everything)] == [len(labels)]
        assert list(project(flow, Counts())) == []


def test_a_request_without_response_has_an_empty_status_code() -> None:
    s = series(code=0, flag="UF")
    (found,) = request(flow_of(s), difference(s, None))
    named = dict(zip(f.REQUEST, found, strict=True))
    assert (named["http_response_status_code"], named["response_flags"]) == ("", "UF")
