"""This node's MeshNode as a file: written whole, never over somebody else's, taken away again."""

import asyncio
import os
from pathlib import Path

import pytest
from msgspec import structs

from mesh.kube.directory import DirectorySource
from mesh.kube.publication import PublicationError, publish, published, withdraw
from mesh.model import MeshNode
from tests.kit.builders import mesh_node, workload


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source/meshnode-n1.yaml"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "published"


def listing(name: str = "n1", *pods: str) -> MeshNode:
    several = [workload(each, f"10.1.0.{index}", node=name) for index, each in enumerate(pods, 1)]
    return mesh_node(name, *(structs.replace(each, owner=each.name, version="latest") for each in several))


def test_what_one_node_writes_the_others_read_and_it_itself_does_not(path, record):
    publish(path, listing("n1", "a", "b"), record)
    for reader, expected in (("n1", []), ("n2", [("n1", ["uid-a", "uid-b"])])):
        snapshot = asyncio.run(DirectorySource(path.parent, reader).poll())
        assert snapshot is not None
        assert snapshot.errors == ()
        assert [(node.name, [each.uid for each in node.workloads]) for node in snapshot.nodes] == expected


def test_the_next_agent_reads_what_its_predecessor_said(path, record):
    assert published(path, "n1") is None
    publish(path, listing("n1", "a"), record)
    publish(path, listing("n1", "a", "b"), record)
    assert published(path, "n1") == listing("n1", "a", "b")
    assert os.listdir(path.parent) == [path.name], "nothing half-written is left"


OTHERS = {
    "another node's": "apiVersion: seine.dev/v1alpha1\nkind: MeshNode\nmetadata: {name: n2}\n",
    "ours and more": "apiVersion: seine.dev/v1alpha1\nkind: MeshNode\nmetadata: {name: n1}\n---\nkind: Pod\n",
    "another kind": "apiVersion: v1\nkind: Namespace\nmetadata: {name: n1}\n",
    "no object": "- a\n",
    "no YAML": "{",
    "empty": "",
    "not valid": "kind: MeshNode\nmetadata: {name: n1}\nspec: {transport: smoke}\n",
    "not UTF-8": "\udcff",
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_a_file_that_says_something_else_is_neither_overwritten_nor_removed(path, record, text):
    path.write_text(text, errors="surrogateescape")
    for step in (lambda: publish(path, listing(), record), lambda: withdraw(record, "n1")):
        with pytest.raises(PublicationError, match="left alone"):
            step()
        assert path.read_text(errors="surrogateescape") == text


def test_it_is_withdrawn_once_by_a_list_without_pods(path, record):
    publish(path, listing("n1", "a"), record)
    assert withdraw(record, "n1") == path
    assert published(path, "n1") == mesh_node("n1")
    assert withdraw(record, "n1") is None


def test_it_is_withdrawn_though_somebody_removed_it_already(path, record):
    """The others hold what a missing file said last."""
    publish(path, listing("n1", "a"), record)
    path.unlink()
    assert withdraw(record, "n1") == path
    assert published(path, "n1") == mesh_node("n1")
    assert not record.exists()


def test_it_is_withdrawn_where_there_is_no_directory_any_more(path, record):
    publish(path, listing("n1", "a"), record)
    path.unlink()
    path.parent.rmdir()
    assert withdraw(record, "n1") == path
    assert not record.exists()


def test_who_publishes_elsewhere_leaves_nothing_at_the_old_place(path, record):
    publish(path, listing("n1", "a"), record)
    elsewhere = path.with_name("other.yaml")
    publish(elsewhere, listing("n1", "a"), record)
    assert os.listdir(path.parent) == ["other.yaml"]


def test_a_place_that_cannot_be_written_is_a_sentence(path, record):
    with pytest.raises(PublicationError, match=r"no/meshnode-n1.yaml cannot be written: No such file"):
        publish(path.parent / "no" / path.name, listing(), record)
