"""What a node listed holds for a while though its list is gone, unless it said goodbye or somebody else has it now."""

from mesh.control import conflicts
from mesh.control.vanished import complete, remember
from mesh.model import MeshNode, Snapshot
from tests.kit.builders import mesh_node, pod, service, snapshot, workload

HOLD = 100.0
TWO = mesh_node("n2", workload("a", "10.2.0.1"), workload("b", "10.2.0.2", "fd00:2::2"))
THREE = mesh_node("n3", workload("c", "10.3.0.1"))


def seen(*nodes: MeshNode) -> Snapshot:
    return snapshot(nodes=nodes)


def uids(found: Snapshot) -> dict[str, list[str]]:
    return {node.name: [each.uid for each in node.workloads] for node in found.nodes}


def test_a_list_that_is_gone_holds_until_its_time_is_over():
    known = remember({}, seen(TWO, THREE), 0.0, HOLD)
    for now in (5.0, 6.0, 104.9):
        known = remember(known, seen(THREE), now, HOLD)
        found = complete(seen(THREE), known)
        assert uids(found) == {"n3": ["uid-c"], "n2": ["uid-a", "uid-b"]}
        assert [node.missing_since for node in found.nodes] == [None, 5.0]
    known = remember(known, seen(THREE), 105.0, HOLD)
    assert uids(complete(seen(THREE), known)) == {"n3": ["uid-c"]}


def test_a_list_that_is_back_is_as_it_is_now():
    known = remember(remember({}, seen(TWO), 0.0, HOLD), seen(), 5.0, HOLD)
    back = mesh_node("n2", workload("b", "10.2.0.2"))
    known = remember(known, seen(back), 6.0, HOLD)
    assert complete(seen(back), known) == seen(back)
    known = remember(known, seen(), 100.0, HOLD)
    assert uids(complete(seen(), known)) == {"n2": ["uid-b"]}, "and its time begins anew"


def test_a_list_without_pods_is_a_goodbye():
    known = remember({}, seen(TWO), 0.0, HOLD)
    known = remember(known, seen(mesh_node("n2")), 1.0, HOLD)
    assert remember(known, seen(), 2.0, HOLD) == {}


def test_a_pod_that_a_node_takes_back_while_its_list_is_there_is_taken_back():
    known = remember({}, seen(TWO), 0.0, HOLD)
    known = remember(known, seen(mesh_node("n2", TWO.workloads[0])), 1.0, HOLD)
    known = remember(known, seen(), 2.0, HOLD)
    assert uids(complete(seen(), known)) == {"n2": ["uid-a"]}


def test_a_clock_that_began_anew_keeps_nobody_for_ever():
    known = remember(remember({}, seen(TWO), 9000.0, HOLD), seen(), 9000.0, HOLD)
    known = remember(known, seen(), 10.0, HOLD)
    assert known["n2"].missing_since == 10.0


def test_whoever_speaks_is_believed_before_it():
    known = remember(remember({}, seen(TWO), 0.0, HOLD), seen(), 1.0, HOLD)
    heir = mesh_node("n4", workload("a", "10.4.0.1"))
    assert uids(complete(seen(heir), known)) == {"n4": ["uid-a"], "n2": ["uid-b"]}
    here = snapshot(pod("b", "10.2.0.2"))
    assert uids(complete(here, known)) == {"n2": ["uid-a"]}


def test_an_address_that_is_anothers_now_is_not_held_and_the_pod_stays_in_the_mesh():
    known = remember(remember({}, seen(TWO), 0.0, HOLD), seen(), 1.0, HOLD)
    now = snapshot(
        workload("new", "10.2.0.2"), service(vip="fd00:2::2"), nodes=(mesh_node("n4", workload("d", "10.2.0.1")),)
    )
    found = complete(now, known)
    assert [(each.uid, each.addresses) for each in found.nodes[1].workloads] == [("uid-a", ()), ("uid-b", ())]
    assert conflicts(found) == ()


def test_of_two_that_are_missing_the_name_decides_who_has_an_address():
    other = mesh_node("n1", workload("z", "10.2.0.1"))
    known = remember(remember({}, seen(TWO, other), 0.0, HOLD), seen(), 1.0, HOLD)
    found = complete(seen(), known)
    assert [each.addresses for node in found.nodes for each in node.workloads] == [
        ("10.2.0.1",),
        (),
        ("10.2.0.2", "fd00:2::2"),
    ]


def test_whoever_is_held_has_his_pods_own_object_beside_him():
    """The source knows the Pod, and so do we: one pod, one address."""
    known = remember(remember({}, seen(TWO), 0.0, HOLD), seen(), 1.0, HOLD)
    found = complete(snapshot(workload("a", "10.2.0.1")), known)
    assert [each.addresses for each in found.nodes[0].workloads] == [("10.2.0.1",), ("10.2.0.2", "fd00:2::2")]
    assert conflicts(found) == ()
