"""This node's MeshNode as a file in a directory that all nodes read: the standalone way to meet.

* It is replaced at once and whole. It is ours alone: a file that says anything else is never overwritten or removed.
* Nobody tells how old it is, and a reader must not guess: an agent that is gone says nothing, but its workers serve on.
  What it lists holds until it says otherwise: `seine clean` on its node leaves a list without pods behind. That the
  file is gone says nothing: the others hold what it listed for a while (mesh.control.vanished).
  Who is listed and gone is not reached (its Services have lost the endpoint by then); whoever has its address later is
  told from it by the uid of its Pod object. In Kubernetes a Lease will tell the dead from the silent.
* `record`, a file in the run directory, knows where it is, so that the next agent and `seine clean` can take it away.
"""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from mesh.config import SourceConfig
from mesh.kube.directory import Fingerprint, fingerprint
from mesh.kube.documents import BadDocument, documents
from mesh.kube.mesh_node import MeshNodeFacts, mesh_node
from mesh.kube.parse import decode, parse
from mesh.kube.reader import read_text
from mesh.kube.settings import BadField
from mesh.model import MeshNode

HEAD = "# Written by the agent of this node, and replaced by it.\n"


class PublicationError(RuntimeError):
    """A sentence for the operator."""


class FileBoard:
    def __init__(self, path: Path, node: str, record: Path) -> None:
        self.name = str(path)
        self._path, self._node, self._record = path, node, record
        self._written: Fingerprint | None = None

    async def former(self) -> MeshNode | None:
        """What a former agent of this node said. Raises PublicationError."""
        return published(self._path, self._node)

    async def say(self, node: MeshNode) -> None:
        """Raises PublicationError."""
        publish(self._path, node, self._record)
        self._written = fingerprint(self._path)

    def stands(self) -> bool:
        """Whether the others can still read what we said last."""
        return fingerprint(self._path) == self._written


def published(path: Path, node: str) -> MeshNode | None:
    """What the file says of that node; None when there is none. Raises PublicationError when it is not ours."""
    limits = SourceConfig()
    try:
        found = [each for each in documents(read_text(path, limits.file_bytes_max), limits) if each is not None]
        facts = [parse(decode(each.value, "MeshNode")) for each in found if each.value.get("kind") == "MeshNode"]
    except FileNotFoundError:
        return None
    except (OSError, BadDocument, BadField, AttributeError) as error:
        raise PublicationError(f"{path} is not this node's MeshNode, and is left alone: {error}") from None
    match facts:
        case [MeshNodeFacts(node=said)] if said.name == node and len(found) == 1:
            return said
    raise PublicationError(f"{path} says something else than MeshNode {node}, and is left alone")


def publish(path: Path, node: MeshNode, record: Path) -> None:
    """Raises PublicationError."""
    try:
        if not record.exists() or record.read_text() != str(path):
            _move(record, node.name)
            record.write_text(str(path))
        _write(path, node)
    except OSError as error:
        raise PublicationError(
            f"{path} cannot be written: {error.strerror}; the other nodes know the last one"
        ) from None


def _write(path: Path, node: MeshNode) -> None:
    published(path, node.name)  # refuses to take another file's place
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(HEAD + yaml.safe_dump(mesh_node(node), sort_keys=False))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _move(record: Path, node: str) -> None:
    """It is written elsewhere from now on, and a node is defined once."""
    former = Path(record.read_text()) if record.exists() else None
    if former is not None and published(former, node) is not None:
        former.unlink()


def withdraw(record: Path, node: str) -> Path | None:
    """Take back what was published, by a list without pods; in which file, None if there was none.

    The file stays, or comes back: that it is gone would tell the others nothing. Raises PublicationError.
    """
    if not record.exists():
        return None
    try:
        path = Path(record.read_text())
        if path.parent.exists():  # else nobody reads there
            _write(path, MeshNode(name=node))
        record.unlink()
    except OSError as error:
        raise PublicationError(f"what {record} names cannot be taken back: {error.strerror}") from None
    return path
