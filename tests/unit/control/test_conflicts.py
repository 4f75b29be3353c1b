import pytest

from mesh.control import conflicts
from mesh.model import MeshNode
from tests.kit.builders import mesh_node, pod, service, snapshot, workload


def test_a_sound_snapshot_has_none():
    node = [pod(name, "192.168.0.1", netns="/proc/1/ns/net", enrolled=False) for name in "xy"]
    node = [
        pod(each.workload.name, workload=workload(each.workload.name, "192.168.0.1", host_network=True))
        for each in node
    ]
    far = workload("far", "10.1.0.1")
    found = snapshot(
        service(), pod("a", "10.0.0.1", "fd00::1"), pod("b", "10.0.0.2"), far, *node, nodes=(mesh_node("n1", far),)
    )
    assert conflicts(found) == ()


@pytest.mark.parametrize(
    ("things", "sentence"),
    [
        ((service("a"), service("b")), "Service default/b has the address 10.96.0.10 of Service default/a"),
        ((service("a", vip="10.0.0.1"), pod("b", "10.0.0.1")),
         "Pod default/b (uid-b) has the address 10.0.0.1 of Service default/a"),
        ((pod("a", "10.0.0.1"), pod("b", "10.0.0.1")),
         "Pod default/b (uid-b) has the address 10.0.0.1 of Pod default/a (uid-a)"),
        ((pod("a", "10.0.0.1", netns="/n"), pod("b", "10.0.0.2", netns="/n")),
         "Pod default/b (uid-b) has the network namespace /n of Pod default/a (uid-a)"),
        ((workload("a", "10.0.0.1", uid="7"), workload("b", "10.0.0.2", uid="7")),
         "Pod default/b (7) has the uid 7 of Pod default/a (7)"),
        ((mesh_node("n1", workload("a", "10.1.0.1")), mesh_node("n2", workload("a", "10.1.0.1"))),
         "MeshNode n2 has the entry of uid uid-a of MeshNode n1"),
        ((pod("a", "10.0.0.1"), mesh_node("n1", workload("b", "10.0.0.1"))),
         "Pod default/b (uid-b) has the address 10.0.0.1 of Pod default/a (uid-a)"),
        ((pod("a", "240.0.0.1"),), "Pod default/a (uid-a) has the address 240.0.0.1 of the mesh's own probe"),
    ],
)  # fmt: skip
def test_each_claim_on_what_another_has_is_a_sentence(things, sentence):
    nodes = tuple(each for each in things if isinstance(each, MeshNode))
    assert conflicts(snapshot(*things, nodes=nodes)) == (sentence,)
