from mesh.control import compile_peers, compile_sources
from mesh.model import Source
from tests.kit.builders import mesh_node, pod, snapshot, workload


def test_every_pod_address_is_somebody_but_a_nodes_is_nobody():
    mine, other = pod("a", "10.0.0.1", "fd00::1"), workload("b", "10.0.9.9")
    found = compile_sources(snapshot(mine, other, workload("c", "192.168.0.1", host_network=True)), {})
    assert {address: who.workload for address, who in found.items()} == {
        "10.0.0.1": mine.workload.id,
        "fd00::1": mine.workload.id,
        "10.0.9.9": other.id,
    }


def test_only_a_listed_workloads_tunnels_may_speak_for_its_address():
    listed, other = workload("a", "10.1.0.1"), workload("b", "10.1.0.2")
    given = snapshot(other, nodes=(mesh_node("n1", listed),))
    found = compile_sources(given, compile_peers(given, {}, "cluster.local"))
    assert found == {
        "10.1.0.1": Source(listed.id, "spiffe://cluster.local/ns/default/sa/default"),
        "10.1.0.2": Source(other.id, ""),
    }


def test_an_address_that_somebody_else_has_by_now_is_nobodys_to_speak_for():
    """The list is older than what we know of the pod."""
    now, before = workload("new", "10.1.0.1"), workload("old", "10.1.0.1")
    given = snapshot(now, nodes=(mesh_node("n1", before),))
    assert compile_sources(given, compile_peers(given, {}, "x")) == {"10.1.0.1": Source(now.id, "")}
