from hypothesis import given

from mesh.control import compile_destinations, compile_plans
from mesh.model import Destination, ServicePort
from tests.kit.builders import endpoint, pod, service, snapshot, workload
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
    found = compile_destinations(given_)
    pods = {("10.0.0.1", 0), ("fd00::1", 0), ("10.0.9.9", 0)}
    assert found.keys() == {(VIP, 80), (VIP6, 80)} | pods | CANARIES
    assert found[VIP, 80] == Destination(address=VIP, port=80, service=True, backends=(("10.0.0.1", 8080),))
    assert found[VIP6, 80].backends == (("fd00::1", 8080),)
    assert not any(found[key].service for key in pods | CANARIES), "without a worker they go direct"


def test_a_service_that_lost_its_last_endpoint_stays_and_refuses():
    found = compile_destinations(snapshot(service(ports=(ServicePort(port=80),))))
    assert found[VIP, 80] == Destination(address=VIP, port=80, service=True)


def test_backends_are_the_ready_ones_or_those_that_serve_their_end():
    ready, ending = endpoint("10.0.0.1"), endpoint("10.0.0.2", ready=False, last_resort=True)
    assert compile_destinations(snapshot(service("web", 80, ready, ending)))[VIP, 80].backends == (("10.0.0.1", 8080),)
    assert compile_destinations(snapshot(service("web", 80, ending)))[VIP, 80].backends == (("10.0.0.2", 8080),)


@given(snapshots)
def test_the_hook_captures_nothing_that_the_engine_has_no_plan_for(any_):
    plans = compile_plans(any_, {})
    for (address, port), found in compile_destinations(any_).items():
        if (address, port) in CANARIES:
            continue
        assert (address, port) in plans
        if found.service:
            chosen = tuple((each.address, each.port) for each in plans[address, port].endpoints)
            assert found.backends == chosen, "engine and hook choose among the same"
