from hypothesis import given

from mesh.control import compile_destinations, compile_peers, compile_plans
from mesh.model import Destination, ServicePort
from tests.kit.builders import endpoint, mesh_node, pod, service, snapshot, workload
from tests.unit.control.test_plans import snapshots

VIP, VIP6 = "10.96.0.10", "fd00:96::10"
CANARIES = {("240.0.0.1", 15021), ("100::5e1e", 15021)}


def test_declared_ports_of_vips_pod_addresses_and_canaries_and_nothing_else():
    given_ = snapshot(
        service("web", 80, endpoint("10.0.0.1"), endpoint("fd00::1"), vips=(VIP, VIP6)),
        service("out", 80, endpoint("192.168.7.7"), vip=""),
        pod("a", "10.0.0.1", "fd00::1"),
        workload("remote", "10.0.9.9"),
        workload("node", "192.168.0.1", host_network=True),
    )
    found = compile_destinations(given_, {})
    pods = {("10.0.0.1", 0), ("fd00::1", 0), ("10.0.9.9", 0)}
    assert found.keys() == {(VIP, 80), (VIP6, 80)} | pods | CANARIES
    assert found[VIP, 80] == Destination(address=VIP, port=80, service=True, backends=(("10.0.0.1", 8080),))
    assert found[VIP6, 80].backends == (("fd00::1", 8080),)
    assert not any(found[key].service for key in pods | CANARIES), "without a worker they go direct"


def test_a_service_that_lost_its_last_endpoint_stays_and_refuses():
    found = compile_destinations(snapshot(service(ports=(ServicePort(port=80),))), {})
    assert found[VIP, 80] == Destination(address=VIP, port=80, service=True)


def test_backends_are_the_ready_ones_or_those_that_serve_their_end():
    ready, ending = endpoint("10.0.0.1"), endpoint("10.0.0.2", ready=False, last_resort=True)
    assert compile_destinations(snapshot(service("web", 80, ready, ending)), {})[VIP, 80].backends == (
        ("10.0.0.1", 8080),
    )
    assert compile_destinations(snapshot(service("web", 80, ending)), {})[VIP, 80].backends == (("10.0.0.2", 8080),)


def test_who_is_reached_by_tunnel_is_refused_without_a_worker_and_never_a_backend():
    local, remote = pod("a", "10.0.0.1"), workload("b", "10.0.1.2")
    given_ = snapshot(
        service("both", 80, endpoint("10.0.0.1"), endpoint("10.0.1.2")),
        service("far", 80, endpoint("10.0.1.2", workload_uid="uid-b"), vip="10.96.0.11"),
        local,
        nodes=(mesh_node("n1", remote),),
    )
    found = compile_destinations(given_, compile_peers(given_, {"uid-a": 0}, "x"))
    assert (found[VIP, 80].backends, found[VIP, 80].tunnelled) == ((("10.0.0.1", 8080),), False)
    assert (found["10.96.0.11", 80].backends, found["10.96.0.11", 80].tunnelled) == ((), True)
    assert (found["10.0.0.1", 0].tunnelled, found["10.0.1.2", 0].tunnelled) == (False, True)


@given(snapshots)
def test_the_hook_captures_nothing_that_the_engine_has_no_plan_for(any_):
    peers = compile_peers(any_, {}, "x")
    plans = compile_plans(any_, {}, peers)
    for (address, port), found in compile_destinations(any_, peers).items():
        if (address, port) in CANARIES:
            continue
        assert (address, port) in plans
        endpoints = plans[address, port].endpoints
        if found.service:
            chosen = tuple((each.address, each.port) for each in endpoints if not each.peer)
            assert found.backends == chosen, "engine and hook choose among the same, but for tunnels"
            assert found.tunnelled == (not chosen and bool(endpoints))
        elif (address, port) in {(each.address, 0) for each in endpoints}:
            assert found.tunnelled == bool(endpoints[0].peer)
