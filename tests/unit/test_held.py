"""Missing lists over restarts of the agent, and what is told of them."""

import logging
from pathlib import Path

import pytest

from mesh.held import HeldNodes
from mesh.model import MeshNode, Snapshot
from tests.kit.builders import mesh_node, snapshot, workload
from tests.kit.clock import FakeClock

TWO = mesh_node("n2", workload("a", "10.2.0.1"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def held(tmp_path: Path, clock: FakeClock) -> HeldNodes:
    return HeldNodes(tmp_path / "nodes", 3600.0, clock)


def seen(*nodes: MeshNode) -> Snapshot:
    return snapshot(nodes=nodes)


def names(found: Snapshot) -> list[str]:
    return [node.name for node in found.nodes if node.workloads]


def test_a_new_agent_remembers_whose_list_was_there_and_is_gone(tmp_path, clock):
    assert names(held(tmp_path, clock).complete(seen(TWO))) == ["n2"]
    successor = held(tmp_path, clock)
    assert names(successor.complete(seen())) == ["n2"]
    clock.advance(1800)
    third = held(tmp_path, clock)
    (node,) = third.complete(seen()).nodes
    assert third.missing(node) == (1800.0, 1800.0)
    clock.advance(1800)
    assert names(third.complete(seen())) == []
    assert list((tmp_path / "nodes").iterdir()) == []


def test_it_is_told_once_and_counted(tmp_path, clock, caplog):
    caplog.set_level(logging.INFO)
    kept = held(tmp_path, clock)
    for found in (seen(TWO), seen(), seen(), seen(TWO), seen()):
        kept.complete(found)
        clock.advance(60)
    clock.advance(3600)
    kept.complete(seen())
    assert kept.lost == 2
    gone = (
        "the MeshNode of n2 is gone for 0 min, and it did not say goodbye: the 1 pods that it listed are reached by"
        " tunnel or not at all, for 1.0 h more"
    )
    assert [record.message for record in caplog.records] == [
        gone,
        "the MeshNode of n2 is back",
        gone,
        "what node n2 listed does not hold any more: its pods are reached as without a mesh",
    ]


def test_a_goodbye_is_no_loss(tmp_path, clock, caplog):
    kept = held(tmp_path, clock)
    for found in (seen(TWO), seen(mesh_node("n2")), seen()):
        kept.complete(found)
    assert (kept.lost, caplog.records) == (0, [])


def test_the_same_state_is_the_same_snapshot(tmp_path, clock):
    """It is asked every second: whoever compiles a snapshot goes by what is new."""
    kept, found = held(tmp_path, clock), seen()
    kept.complete(seen(TWO))
    first = kept.complete(found)
    clock.advance(1)
    assert kept.complete(found) is first


def test_a_record_that_is_damaged_is_told_and_the_others_are_remembered(tmp_path, clock, caplog):
    held(tmp_path, clock).complete(seen(TWO, mesh_node("../n3", workload("b", "10.3.0.1"))))
    (tmp_path / "nodes/n2.json").write_text("{")
    assert names(held(tmp_path, clock).complete(seen())) == ["../n3"]
    assert "n2.json is not read" in caplog.text


def test_a_full_disk_costs_the_memory_of_it_and_nothing_else(tmp_path, clock, caplog):
    (tmp_path / "nodes").write_text("no directory")
    kept = held(tmp_path, clock)
    kept.complete(seen(TWO))
    assert names(kept.complete(seen())) == ["n2"]
    assert "what node n2 lists is not remembered over a restart: " in caplog.text
