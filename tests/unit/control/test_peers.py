"""Who is reached by tunnel, and as whom."""

from mesh.control import Peer, compile_peers, quic_nodes
from mesh.model import Host, Mtls, Transport
from tests.kit.builders import mesh_node, pod, snapshot, workload

WEB = "spiffe://example.org/ns/shop/sa/web"


def test_a_peer_has_the_identity_and_the_transport_that_its_node_lists():
    listed = workload("web", "10.1.0.1", namespace="shop", service_account="web")
    hosts = (Host(name="n1", addresses=("192.0.2.1",)),)
    given = snapshot(nodes=(mesh_node("n1", listed, transport=Transport.QUIC),), hosts=hosts)
    assert compile_peers(given, {}, "example.org") == {"uid-web": Peer(WEB, Transport.QUIC, "192.0.2.1:15008")}


def test_of_two_nodes_that_list_one_workload_the_first_is_believed():
    first, second = (workload("web", "10.1.0.1", service_account=name) for name in ("web", "thief"))
    given = snapshot(nodes=(mesh_node("n1", first), mesh_node("n2", second)))
    assert compile_peers(given, {}, "x")["uid-web"].identity.endswith("/sa/web")


def test_our_own_pods_are_peers_only_when_it_is_switched_on_and_only_those_that_accept_tunnels():
    mine, plain = pod("a", "10.0.0.1"), pod("b", "10.0.0.2", mtls=Mtls.DISABLED)
    waiting = pod("c", "10.0.0.3")
    given = snapshot(mine, plain, waiting, nodes=(mesh_node("n1", mine.workload),))
    slots = {"uid-a": 0, "uid-b": 1}
    assert compile_peers(given, slots, "x") == {}
    assert compile_peers(given, slots, "x", local_tunnel=True).keys() == {"uid-a"}


def test_quic_needs_the_address_of_the_node_and_is_hbone_where_nobody_knows_it():
    listed = workload("web", "10.1.0.1")
    nodes = (mesh_node("n1", listed, transport=Transport.QUIC),)
    for addresses, transport, node in (
        (("192.0.2.1", "fd00::1"), Transport.QUIC, "192.0.2.1:15008"),
        (("fd00::1",), Transport.QUIC, "[fd00::1]:15008"),
        ((), Transport.HBONE, ""),
    ):
        hosts = (Host(name="n1", addresses=addresses), Host(name="n2", addresses=("192.0.2.2",)))
        found = compile_peers(snapshot(nodes=nodes, hosts=hosts), {}, "x")["uid-web"]
        assert (found.transport, found.node) == (transport, node)
        assert quic_nodes(snapshot(nodes=nodes, hosts=hosts)) == ({"n1": node} if node else {})
