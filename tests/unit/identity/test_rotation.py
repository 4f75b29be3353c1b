"""Which step comes next, and whom it would cut off."""

import msgspec
import pytest

from mesh.identity import rotation
from mesh.identity.authority import Hanging, Record, Root, RootState
from mesh.identity.rotation import Settling, Step

JOINING, ISSUING, LEAVING = RootState.JOINING, RootState.ISSUING, RootState.LEAVING
NOW = 1000.0


def root(name, state, since=1):
    return Root(id=name, certificate=name.encode(), state=state, not_after=9e9, since=since)


def record(node="a", trusts=("old",), leafs=(("old", 2, NOW + 100),), **more):
    hanging = tuple(Hanging(root=name, count=count, until=until) for name, count, until in leafs)
    return Record(**{"node": node, "generation": 1, "trusts": trusts, "leafs": hanging, **more})


ONE = (root("old", ISSUING),)
TWO = (root("old", ISSUING), root("new", JOINING, since=2))
AFTER = (root("old", LEAVING, since=3), root("new", ISSUING, since=3))


def obstacles(roots, *records, now=NOW):
    nodes = rotation.outlook(roots, records, now, rotation.next_step(roots))
    return {node.node: node.obstacle for node in nodes}


def test_the_steps_lead_from_one_root_to_the_other():
    assert rotation.next_step(ONE) is Step.NONE
    assert rotation.next_step(TWO) is Step.SWITCH
    assert rotation.advance(TWO, 3) == AFTER
    assert rotation.next_step(AFTER) is Step.REMOVE
    assert rotation.advance(AFTER, 4) == (root("new", ISSUING, since=3),)


@pytest.mark.parametrize(
    ("roots", "words"),
    [
        (ONE, ""),
        (TWO, ""),
        (AFTER, ""),
        ((), "0 roots issue"),
        ((root("a", LEAVING),), "0 roots issue"),
        ((root("a", ISSUING), root("b", ISSUING)), "2 roots issue"),
        ((*TWO, root("older", LEAVING)), "one that joins or one that leaves"),
        ((root("a", ISSUING), root("b", LEAVING), root("c", LEAVING)), "one that joins or one that leaves"),
        ((root("a", ISSUING), root("a", LEAVING)), "twice"),
    ],
)
def test_roots_that_cannot_be_of_one_moment_are_recognized(roots, words):
    assert words in rotation.problem(roots)
    assert bool(rotation.problem(roots)) is bool(words)


def test_the_new_root_does_not_issue_before_everybody_who_matters_believes_it():
    ready = record("a", ("old", "new"))
    assert obstacles(TWO, ready, record("b")) == {"a": "", "b": "does not believe the new root new yet"}
    assert obstacles(TWO, ready, record("b", ("new", "old"))) == {"a": "", "b": ""}


def test_the_old_root_stays_while_somebody_has_a_certificate_from_it_or_has_not_heard():
    good = {"trusts": ("old", "new"), "leafs": (("new", 2, NOW + 100),)}
    assert obstacles(AFTER, record("a", **good, generation=3)) == {"a": ""}
    assert "has not heard" in obstacles(AFTER, record("a", **good, generation=2))["a"]
    mixed = {**good, "leafs": (("new", 2, NOW + 100), ("old", 1, NOW + 50)), "generation": 3}
    assert obstacles(AFTER, record("a", **mixed)) == {"a": "has 1 certificates from the old root old"}


@pytest.mark.parametrize("roots", [TWO, AFTER])
def test_a_node_without_a_living_certificate_can_neither_cut_off_nor_be_cut_off(roots):
    """It died with its agent, or never had a pod in the mesh."""
    assert obstacles(roots, record("a", leafs=())) == {}
    dead = record("a", leafs=(("old", 3, NOW - rotation.SKEW_SECONDS - 1),))
    assert obstacles(roots, dead) == {}
    assert obstacles(roots, msgspec.structs.replace(dead, leafs=(Hanging(root="old", count=1, until=NOW - 1),)))["a"]


def test_a_node_that_others_see_and_that_never_spoke_stands_in_the_way():
    ready = {"trusts": ("old", "new"), "peers": ("b", "c")}
    found = obstacles(TWO, record("a", **ready), record("b", ("old", "new")))
    assert found["c"] == "a sees it in the mesh, and it never said what it believes"
    assert (found["a"], found["b"]) == ("", "")
    assert obstacles(TWO, record("a", **ready), record("b", leafs=()), record("c", leafs=())) == {"a": ""}


def test_a_dry_run_shows_who_is_cut_off_already():
    assert obstacles(ONE, record("a"), record("b", ("other",)))["b"].startswith("does not believe old")


def test_a_step_waits_until_nothing_stood_in_its_way_for_a_while():
    settling = Settling(10.0)
    looks = [(True, 0, False), (True, 9.9, False), (True, 10, True)]
    assert [settling.ready(2, clear, now) for clear, now, _ in looks] == [go for _, _, go in looks]
    assert not settling.ready(2, False, 11)
    assert not settling.ready(2, True, 12)
    assert not settling.ready(2, True, 21.9)
    assert settling.ready(2, True, 22)


def test_the_wait_begins_again_with_every_generation():
    settling = Settling(10.0)
    assert not settling.ready(2, True, 0)
    assert settling.ready(2, True, 10)
    assert not settling.ready(3, True, 10)
    assert settling.ready(3, True, 20)


def test_what_happens_next_is_a_sentence_that_names_who_is_waited_for():
    for roots, words in (
        (ONE, "a new root would join"),
        (TWO, "new root new issues"),
        (AFTER, "old root old is removed"),
    ):
        nodes = rotation.outlook(roots, [record("b", ("x",))], NOW, rotation.next_step(roots))
        assert words in rotation.describe(roots, nodes)
        assert "waiting for b" in rotation.describe(roots, nodes)
    assert "nothing stands in its way" in rotation.describe(ONE, ())
