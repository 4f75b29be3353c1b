"""What nodes list, where they contradict each other or what we know ourselves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.kube.listings import Known, Said, settle
from mesh.model import MeshNode, Workload
from tests.kit.builders import mesh_node, pod, service, workload

NOTHING = Known((), (), ())


def said(*nodes: MeshNode) -> list[Said]:
    return [Said(f"{node.name}.yaml:1", node) for node in nodes]


def uids(nodes: list[MeshNode]) -> dict[str, list[str]]:
    return {node.name: [each.uid for each in node.workloads] for node in nodes}


def test_nodes_that_agree_are_believed():
    one, two = mesh_node("n1", workload("a", "10.1.0.1")), mesh_node("n2", workload("b", "10.2.0.1"))
    nodes, errors, seats = settle(said(two, one), NOTHING)
    assert nodes == [one, two]
    assert errors == []
    assert seats == {("MeshNode n1", "uid-a"), ("MeshNode n2", "uid-b")}


def test_of_two_nodes_that_list_one_workload_the_older_stays_and_it_is_said():
    mine = mesh_node("n9", workload("a", "10.1.0.1"))
    _, _, seats = settle(said(mine), NOTHING)
    thief = mesh_node("n1", workload("a", "10.6.6.6"), workload("b", "10.6.0.1"))
    nodes, errors, again = settle(said(thief, mine), NOTHING, seats)
    assert uids(nodes) == {"n1": ["uid-b"], "n9": ["uid-a"]}
    assert errors == [
        "n1.yaml:1: MeshNode n1 lists Pod default/a, which MeshNode n9 listed before it; this is not believed"
    ]
    nodes, errors, _ = settle(said(thief), NOTHING, again)
    assert (uids(nodes), errors) == ({"n1": ["uid-a", "uid-b"]}, []), "given up, it can be had"


def test_of_two_workloads_at_one_address_the_older_has_it_and_the_other_stays_in_the_mesh():
    """By its uid: an address that was given on is no reason to reach it in plaintext."""
    old, new = mesh_node("n2", workload("old", "10.1.0.1")), mesh_node("n1", workload("new", "10.1.0.1", "fd00::1"))
    _, _, seats = settle(said(old), NOTHING)
    nodes, errors, _ = settle(said(new, old), NOTHING, seats)
    assert [(each.uid, each.addresses) for node in nodes for each in node.workloads] == [
        ("uid-new", ("fd00::1",)),
        ("uid-old", ("10.1.0.1",)),
    ]
    assert errors == ["n1.yaml:1: MeshNode n1 lists Pod default/new at 10.1.0.1, which is Pod default/old's"]


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (Known((), (), [pod("a", "10.0.0.1")]), "which is a pod of this node"),
        (Known((), [workload("a", "10.1.0.1", node="n7")], ()), "which is on node n7"),
        (Known((), [workload("a", "10.1.0.1", service_account="b")], ()),
         "whose uid is that of Pod default/a with service account b"),
        (Known((), [workload("a", "10.1.0.1", namespace="x")], ()),
         "whose uid is that of Pod x/a with service account default"),
    ],
)  # fmt: skip
def test_what_we_know_ourselves_is_believed_first(known, reason):
    nodes, errors, seats = settle(said(mesh_node("n1", workload("a", "10.1.0.1"))), known)
    assert (uids(nodes), seats) == ({"n1": []}, frozenset())
    assert errors == [f"n1.yaml:1: MeshNode n1 lists Pod default/a, {reason}; this is not believed"]


def test_a_pod_that_we_know_is_listed_where_it_is():
    ours = [workload("a", "10.1.0.1", node="n1"), workload("b", "10.1.0.2")]
    nodes, errors, _ = settle(said(mesh_node("n1", *ours)), Known((), ours, ()))
    assert (uids(nodes), errors) == ({"n1": ["uid-a", "uid-b"]}, [])


def test_an_address_is_not_had_by_listing_it():
    known = Known([service("web")], [workload("b", "10.1.0.2"), workload("h", "10.9.0.1", host_network=True)], ())
    thief = workload("a", "10.1.0.1", "10.1.0.2", "10.96.0.10", "10.9.0.1")
    nodes, errors, _ = settle(said(mesh_node("n1", thief)), known)
    assert nodes[0].workloads[0].addresses == ("10.1.0.1", "10.9.0.1")
    assert errors == [
        "n1.yaml:1: MeshNode n1 lists Pod default/a at 10.1.0.2, which is Pod default/b's",
        "n1.yaml:1: MeshNode n1 lists Pod default/a at 10.96.0.10, which is Service default/web's",
    ]


workloads = st.builds(
    lambda name, addresses: workload(name, *addresses),
    st.sampled_from("abc"),
    st.lists(st.sampled_from(["10.1.0.1", "10.1.0.2", "fd00::1"]), min_size=1, max_size=2, unique=True),
)
some_nodes = st.lists(
    st.builds(
        lambda name, listed: mesh_node(name, *listed),
        st.sampled_from(["n1", "n2", "n3"]),
        st.lists(workloads, max_size=3, unique_by=lambda each: each.uid),
    ),
    max_size=3,
    unique_by=lambda node: node.name,
)


@given(some_nodes, some_nodes)
def test_nothing_is_had_twice_and_who_has_it_keeps_it(first, second):
    nodes, _, seats = settle(said(*first), NOTHING)
    again, errors, _ = settle(said(*reversed(first)), NOTHING, seats)
    assert again == nodes, "the order of files changes nothing"
    later, errors, _ = settle(said(*second), NOTHING, seats)
    held: dict[str, Workload] = {}
    for each in (each for node in later for each in node.workloads):
        for claim in (each.uid, *each.addresses):
            assert held.setdefault(claim, each) == each
    entries = sum(len(node.workloads) for node in second)
    assert entries == sum(len(node.workloads) for node in later) + sum("not believed" in each for each in errors)
    for node in second:  # who was believed and says it still is believed still
        for each in node.workloads:
            if (f"MeshNode {node.name}", each.uid) in seats:
                assert each.uid in uids(later)[node.name]
