from __future__ import annotations

from typing import Any

from mesh.model import Endpoint, MeshNode, Pod, Service, ServicePort, Snapshot, Workload, stable_id
from mesh.observe.names import Party, names_of


def workload(uid: str, **given: Any) -> Workload:
    return Workload(uid=uid, namespace="shop", name=uid, addresses=(), **given)


def test_a_workload_is_called_by_its_owner_and_labels() -> None:
    web = workload("web-5d4f-x", owner="web", app="shop-web", version="v2")
    names = names_of(Snapshot(workloads=(web,)), "cluster.local")
    assert names.parties[web.id] == Party(
        namespace="shop",
        workload="web",
        pod="web-5d4f-x",
        app="shop-web",
        version="v2",
        principal="spiffe://cluster.local/ns/shop/sa/default",
    )


def test_whom_another_node_lists_is_called_as_it_says_unless_we_know_better() -> None:
    listed, known = workload("web-1", owner="web"), workload("web-2", owner="web")
    wrong = workload("web-2", owner="somebody")
    given = Snapshot(workloads=(known,), nodes=(MeshNode(name="n1", workloads=(listed, wrong)),))
    parties = names_of(given, "x").parties
    assert [parties[w.id].workload for w in (listed, known)] == ["web", "web"]
    assert not parties[listed.id].enrolled, "its proxy is another node's"


def test_a_pod_without_owner_and_labels_is_called_by_its_name() -> None:
    bare = workload("bare")
    party = names_of(Snapshot(workloads=(bare,)), "cluster.local").parties[bare.id]
    assert (party.workload, party.app, party.version) == ("bare", "bare", "latest")


def test_only_pods_that_are_in_the_mesh_are_enrolled() -> None:
    into, out, refused = (workload(uid) for uid in ("into", "out", "refused"))
    pods = (
        Pod(workload=into, netns="/run/netns/a", enrolled=True),
        Pod(workload=out, netns="/run/netns/b"),
        Pod(workload=refused, netns="/run/netns/c", enrolled=True, refused="it shares the host's namespace"),
    )
    parties = names_of(Snapshot(pods=pods, workloads=(into,)), "cluster.local").parties
    assert [parties[w.id].enrolled for w in (into, out, refused)] == [True, False, False]


def test_a_service_knows_its_endpoints_also_those_that_are_no_workload() -> None:
    web = workload("web")
    ends = (Endpoint(address="10.0.0.1", port=80, workload_uid="web"), Endpoint(address="192.0.2.7", port=80))
    ports = (ServicePort(port=80, endpoints=ends), ServicePort(port=81, endpoints=ends))
    given = Snapshot(workloads=(web,), services=(Service(namespace="shop", name="web", ports=ports),))
    names = names_of(given, "cluster.local")
    outside = stable_id("address", "192.0.2.7")
    called = names.services[stable_id("service", "shop", "web")]
    assert (called.namespace, called.name, list(called.endpoints())) == ("shop", "web", [web.id, outside])
    assert called.endpoints()[outside].pod == "192.0.2.7"
