"""What the engine is told, as sentences about services and pods, and as properties of any snapshot."""

from hypothesis import given
from hypothesis import strategies as st

from mesh.control import compile_peers, compile_plans
from mesh.control.select import addressed
from mesh.model import (
    Balancer,
    Endpoint,
    Host,
    MeshNode,
    Mtls,
    Plan,
    Pod,
    Protocol,
    Service,
    ServicePort,
    Snapshot,
    Transport,
    Workload,
    stable_id,
)
from tests.kit.builders import endpoint, mesh_node, pod, service, snapshot, workload

VIP, VIP6 = "10.96.0.10", "fd00:96::10"


def end(name: str, address: str, port: int = 8080, **fields) -> Endpoint:
    return endpoint(address, port, workload_uid=f"uid-{name}", **fields)


def slots_of(plan: Plan) -> list[tuple[str, int]]:
    return [(each.address, each.slot) for each in plan.endpoints]


# --- VIPs


def test_a_vip_has_the_ready_endpoints_and_knows_which_are_local():
    given_ = snapshot(
        service("web", 80, end("a", "10.0.0.1", weight=3), end("b", "10.0.0.2"), end("c", "10.0.0.3", ready=False)),
        pod("a", "10.0.0.1"),
        workload("b", "10.0.0.2"),
    )
    plan = compile_plans(given_, {"uid-a": 7}, {})[VIP, 80]
    assert plan.service == stable_id("service", "default", "web")
    assert plan.balancer is Balancer.EWMA
    assert slots_of(plan) == [("10.0.0.1", 7), ("10.0.0.2", -1)]
    assert [each.weight for each in plan.endpoints] == [3, 1]
    assert [each.port for each in plan.endpoints] == [8080, 8080]


def test_a_dual_stack_service_keeps_the_family():
    both = service("web", 80, end("a", "10.0.0.1"), end("a", "fd00::1"), vips=(VIP, VIP6))
    plans = compile_plans(snapshot(both, pod("a", "10.0.0.1", "fd00::1")), {"uid-a": 1}, {})
    assert slots_of(plans[VIP, 80]) == [("10.0.0.1", 1)]
    assert slots_of(plans[VIP6, 80]) == [("fd00::1", 1)]


def test_a_service_without_endpoints_has_a_plan_that_refuses():
    assert compile_plans(snapshot(service("web", 80, ports=(ServicePort(port=80),))), {}, {})[VIP, 80].endpoints == ()


def test_the_last_one_serves_its_end():
    ending = end("a", "10.0.0.1", ready=False, last_resort=True)
    plan = compile_plans(snapshot(service("web", 80, ending), pod("a", "10.0.0.1")), {}, {})[VIP, 80]
    assert slots_of(plan) == [("10.0.0.1", -1)]


def test_an_undeclared_port_of_a_vip_has_no_plan():
    assert (VIP, 81) not in compile_plans(snapshot(service()), {}, {})
    assert (VIP, 0) not in compile_plans(snapshot(service()), {}, {})


def test_an_endpoint_outside_the_cluster_goes_by_its_address():
    plan = compile_plans(snapshot(service("db", 5432, endpoint("192.168.7.7", 5432))), {}, {})[VIP, 5432]
    assert plan.endpoints[0].id == stable_id("address", "192.168.7.7")
    assert plan.endpoints[0].slot == -1


def test_an_endpoint_without_a_reference_is_the_pod_of_its_address():
    plan = compile_plans(snapshot(service("web", 80, endpoint("10.0.0.1")), pod("a", "10.0.0.1")), {"uid-a": 4}, {})[
        VIP, 80
    ]
    assert (plan.endpoints[0].id, plan.endpoints[0].slot) == (stable_id("workload", "uid-a"), 4)


def test_a_stale_endpoint_is_not_the_pod_that_has_its_address_now():
    """The pod was replaced by another at the same address; the slice still names the old one."""
    plans = compile_plans(
        snapshot(service("web", 80, end("old", "10.0.0.1")), pod("new", "10.0.0.1")), {"uid-new": 4}, {}
    )
    assert plans[VIP, 80].endpoints[0].slot == -1
    assert plans[VIP, 80].endpoints[0].id == stable_id("workload", "uid-old")
    assert ("10.0.0.1", 8080) not in plans
    assert plans["10.0.0.1", 0].endpoints[0].slot == 4


def test_a_host_network_endpoint_is_reached_by_its_vip_and_is_no_destination_of_its_own():
    node = workload("a", "192.168.0.1", host_network=True)
    plans = compile_plans(snapshot(service("web", 80, end("a", "192.168.0.1")), node), {}, {})
    assert slots_of(plans[VIP, 80]) == [("192.168.0.1", -1)]
    assert set(plans) == {(VIP, 80)}


# --- pod addresses


def test_a_pods_address_means_the_pod_on_any_port():
    plans = compile_plans(snapshot(pod("a", "10.0.0.1", "fd00::1")), {"uid-a": 2}, {})
    assert set(plans) == {("10.0.0.1", 0), ("fd00::1", 0)}
    plan = plans["fd00::1", 0]
    assert (plan.service, plan.protocol, plan.endpoints[0].port) == (0, Protocol.DETECT, 0)
    assert (plan.endpoints[0].address, plan.endpoints[0].slot) == ("fd00::1", 2)


def test_a_headless_services_pods_count_for_it_with_its_protocol():
    headless = service("db", 5432, end("a", "10.0.0.1", 5432), vip="")
    named = Service(
        namespace="default",
        name="db",
        ports=(ServicePort(port=5432, name="postgresql", endpoints=headless.ports[0].endpoints),),
    )
    plans = compile_plans(snapshot(named, pod("a", "10.0.0.1")), {"uid-a": 2}, {})
    assert set(plans) == {("10.0.0.1", 5432), ("10.0.0.1", 0)}
    plan = plans["10.0.0.1", 5432]
    assert (plan.service, plan.protocol, slots_of(plan)) == (named.id, Protocol.OPAQUE, [("10.0.0.1", 2)])


def test_a_pod_that_is_not_ready_can_be_named():
    plans = compile_plans(snapshot(service("web", 80, end("a", "10.0.0.1", ready=False)), pod("a", "10.0.0.1")), {}, {})
    assert plans[VIP, 80].endpoints == ()
    assert slots_of(plans["10.0.0.1", 8080]) == [("10.0.0.1", -1)]


def test_a_port_that_two_services_claim_counts_for_neither():
    same = end("a", "10.0.0.1")
    both = (service("web", 80, same), service("shop", 80, same, vip="10.96.0.11"))
    plan = compile_plans(snapshot(*both, pod("a", "10.0.0.1")), {}, {})["10.0.0.1", 8080]
    assert (plan.service, plan.protocol) == (0, Protocol.HTTP), "they agree on the protocol"


def test_claims_that_disagree_on_the_protocol_leave_it_to_the_first_bytes():
    same = end("a", "10.0.0.1")
    ports = (ServicePort(port=80, name="http", endpoints=(same,)), ServicePort(port=81, name="tcp", endpoints=(same,)))
    one = Service(namespace="default", name="web", vips=(VIP,), ports=ports)
    plans = compile_plans(snapshot(one, pod("a", "10.0.0.1")), {}, {})
    assert (plans["10.0.0.1", 8080].service, plans["10.0.0.1", 8080].protocol) == (one.id, Protocol.DETECT)
    assert (plans[VIP, 80].protocol, plans[VIP, 81].protocol) == (Protocol.HTTP, Protocol.OPAQUE)


# --- protocols


def test_what_an_annotation_wants_wins_over_every_hint():
    ports = (ServicePort(port=80, name="http", app_protocol="http", protocol=Protocol.OPAQUE),)
    assert compile_plans(snapshot(service(ports=ports)), {}, {})[VIP, 80].protocol is Protocol.OPAQUE


def test_an_opaque_port_of_a_pod_is_opaque_by_every_way():
    given_ = snapshot(
        service("web", 80, end("a", "10.0.0.1"), end("b", "10.0.0.2")),
        pod("a", "10.0.0.1", opaque_ports=frozenset({8080, 25})),
        pod("b", "10.0.0.2"),
    )
    plans = compile_plans(given_, {}, {})
    assert plans[VIP, 80].protocol is Protocol.OPAQUE, "one opaque endpoint is enough"
    assert plans["10.0.0.1", 8080].protocol is Protocol.OPAQUE
    assert plans["10.0.0.1", 8080].service
    assert (plans["10.0.0.1", 25].protocol, plans["10.0.0.1", 25].service) == (Protocol.OPAQUE, 0)
    assert plans["10.0.0.2", 8080].protocol is Protocol.HTTP


# --- other nodes

IDENTITY = "spiffe://cluster.local/ns/default/sa/default"


def planned(given_: Snapshot, slots: dict[str, int], local_tunnel: bool = False) -> dict[tuple[str, int], Plan]:
    return compile_plans(given_, slots, compile_peers(given_, slots, "cluster.local", local_tunnel))


def test_whom_another_node_lists_goes_by_tunnel_by_its_vip_and_by_its_address():
    far = workload("b", "10.0.1.2", service_account="web")
    given_ = snapshot(
        service("web", 80, end("a", "10.0.0.1"), end("b", "10.0.1.2"), end("c", "10.0.1.3")),
        pod("a", "10.0.0.1"),
        workload("c", "10.0.1.3"),
        nodes=(mesh_node("n1", far, transport=Transport.QUIC),),
        hosts=(Host(name="n1", addresses=("192.0.2.1",)),),
    )
    plans = planned(given_, {"uid-a": 7})
    identity = "spiffe://cluster.local/ns/default/sa/web"
    expected = [("", 7), (identity, -1), ("", -1)]
    assert [(each.peer, each.slot) for each in plans[VIP, 80].endpoints] == expected
    assert [each.transport for each in plans[VIP, 80].endpoints][1] is Transport.QUIC
    for port in (8080, 0):
        (only,) = plans["10.0.1.2", port].endpoints
        assert (only.peer, only.transport, only.slot, only.id) == (identity, Transport.QUIC, -1, far.id)
        assert only.node == "192.0.2.1:15008"
    assert plans["10.0.1.3", 0].endpoints[0].peer == ""


def test_an_endpoint_without_a_uid_is_whom_a_node_lists_at_its_address():
    given_ = snapshot(service("web", 80, endpoint("10.0.1.2")), nodes=(mesh_node("n1", workload("b", "10.0.1.2")),))
    (only,) = planned(given_, {})[VIP, 80].endpoints
    assert (only.peer, only.id) == (IDENTITY, stable_id("workload", "uid-b"))


def test_a_listed_address_means_nothing_where_the_uids_differ():
    """Whom the node lists is gone, and its address somebody else's, who is in no mesh."""
    given_ = snapshot(
        service("web", 80, end("new", "10.0.1.2")),
        workload("new", "10.0.1.2"),
        nodes=(mesh_node("n1", workload("old", "10.0.1.2")),),
    )
    plans = planned(given_, {})
    assert {each.peer for plan in plans.values() for each in plan.endpoints} == {""}


def test_a_listed_uid_is_reached_by_tunnel_wherever_it_is_said_to_be():
    """Failing there is right; plaintext to one that is in the mesh is not."""
    given_ = snapshot(service("web", 80, end("b", "10.0.1.9")), nodes=(mesh_node("n1", workload("b", "10.0.1.2")),))
    assert [each.peer for each in planned(given_, {})[VIP, 80].endpoints] == [IDENTITY]


def test_a_pod_of_this_node_is_ours_whoever_lists_it():
    given_ = snapshot(pod("a", "10.0.0.1"), nodes=(mesh_node("n1", workload("a", "10.0.0.1")),))
    (only,) = planned(given_, {"uid-a": 3})["10.0.0.1", 0].endpoints
    assert (only.slot, only.peer) == (3, "")


def test_between_two_pods_of_a_node_there_is_a_tunnel_only_where_it_is_switched_on():
    given_ = snapshot(
        pod("a", "10.0.0.1"), pod("b", "10.0.0.2", mtls=Mtls.DISABLED), pod("c", "10.0.0.3", enrolled=False)
    )
    slots = {"uid-a": 1, "uid-b": 2}
    for switched, expected in ((False, ""), (True, IDENTITY)):
        plans = planned(given_, slots, local_tunnel=switched)
        assert [plans[f"10.0.0.{n}", 0].endpoints[0].peer for n in (1, 2, 3)] == [expected, "", ""]
        assert [plans[f"10.0.0.{n}", 0].endpoints[0].slot for n in (1, 2, 3)] == [1, 2, -1]


# --- any snapshot

addresses = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2"])
uids = st.sampled_from(["", "uid-a", "uid-b", "uid-c"])
endpoints = st.builds(
    Endpoint, address=addresses, port=st.sampled_from([80, 8080]), workload_uid=uids, ready=st.booleans(),
    last_resort=st.booleans(), weight=st.integers(1, 3),
)  # fmt: skip
ports = st.builds(
    ServicePort, port=st.sampled_from([80, 81]), name=st.sampled_from(["", "http", "tcp"]),
    endpoints=st.lists(endpoints, max_size=4).map(tuple),
)  # fmt: skip
services = st.builds(
    Service, namespace=st.just("x"), name=st.sampled_from(["s", "t"]),
    vips=st.lists(st.sampled_from([VIP, VIP6, "10.0.0.3"]), unique=True, max_size=2).map(tuple),
    ports=st.lists(ports, max_size=2).map(tuple),
)  # fmt: skip
workloads = st.builds(
    Workload, uid=st.sampled_from(["uid-a", "uid-b", "uid-c"]), namespace=st.just("x"), name=st.just("w"),
    addresses=st.lists(addresses, unique=True, max_size=2).map(tuple), host_network=st.booleans(),
)  # fmt: skip
pods = st.builds(
    Pod, workload=workloads, netns=st.just("/n"), opaque_ports=st.sampled_from([frozenset(), frozenset({80})])
)
nodes = st.builds(MeshNode, name=st.sampled_from(["n1", "n2"]), workloads=st.lists(workloads, max_size=2).map(tuple))
snapshots = st.builds(
    lambda pods, workloads, services, nodes: Snapshot(
        pods=tuple(pods), workloads=(*workloads, *(each.workload for each in pods)), services=tuple(services),
        nodes=tuple(nodes),
    ),
    st.lists(pods, max_size=2), st.lists(workloads, max_size=2), st.lists(services, max_size=2),
    st.lists(nodes, max_size=2),
)  # fmt: skip


@given(snapshots)
def test_any_snapshot_even_one_full_of_conflicts_compiles_to_sound_plans(any_):
    known = addressed(any_)
    slots = {each.workload.uid: number for number, each in enumerate(any_.pods)}
    plans = compile_plans(any_, slots, {})
    assert plans == compile_plans(any_, slots, {}), "deterministic"
    for (address, port), plan in plans.items():
        assert (plan.address, plan.port) == (address, port)
        assert len({(each.address, each.port) for each in plan.endpoints}) <= len(plan.endpoints)
        for each in plan.endpoints:
            assert (":" in each.address) == (":" in address), "a connection keeps its family"
            assert each.weight > 0
            if each.slot >= 0:
                assert slots[known[each.address].uid] == each.slot, "a slot is the pod that has this address"
    assert {(address, 0) for address in known} <= plans.keys()


@given(snapshots)
def test_who_is_listed_is_never_reached_in_plaintext_and_who_is_not_never_by_tunnel(any_):
    listed = {each.uid: each for node in any_.nodes for each in node.workloads}
    ids = {each.id for each in listed.values()}
    for plan in planned(any_, {}).values():
        for each in plan.endpoints:
            assert bool(each.peer) == (each.id in ids)


@given(snapshots)
def test_slots_change_nothing_but_slots(any_):
    without = compile_plans(any_, {}, {})
    assert all(each.slot == -1 for plan in without.values() for each in plan.endpoints)
    assert without.keys() == compile_plans(any_, {"uid-a": 1, "uid-b": 2}, {}).keys()
