from mesh.control.select import addressed, virtual
from mesh.model import ServicePort
from tests.kit.builders import service, snapshot, workload


def test_of_two_that_claim_an_address_the_first_has_it():
    first, second = workload("a", "10.0.0.1"), workload("b", "10.0.0.1", "10.0.0.2")
    assert addressed(snapshot(first, second)) == {"10.0.0.1": first, "10.0.0.2": second}


def test_every_declared_port_of_every_vip_comes_once():
    ports = (ServicePort(port=80, name="a"), ServicePort(port=81, name="b"))
    one, two = (
        service("one", ports=ports, vips=("10.96.0.1", "fd00::1")),
        service("two", ports=ports, vips=("10.96.0.1",)),
    )
    assert [(vip, owner.name, port.port) for vip, owner, port in virtual(snapshot(one, two))] == [
        ("10.96.0.1", "one", 80),
        ("10.96.0.1", "one", 81),
        ("fd00::1", "one", 80),
        ("fd00::1", "one", 81),
    ]
