from mesh.control import compile_sources
from tests.kit.builders import pod, snapshot, workload


def test_every_pod_address_is_somebody_but_a_nodes_is_nobody():
    mine, other = pod("a", "10.0.0.1", "fd00::1"), workload("b", "10.0.9.9")
    found = compile_sources(snapshot(mine, other, workload("c", "192.168.0.1", host_network=True)))
    assert found == {"10.0.0.1": mine.workload.id, "fd00::1": mine.workload.id, "10.0.9.9": other.id}
