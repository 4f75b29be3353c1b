"""The other nodes' lists as they were last, kept over restarts of the agent; see mesh.control.vanished.

One file per node in a directory of our own: a cluster changes all the time, a node's list now and then. What cannot be
kept is told and costs nothing but the memory of it after the next start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import msgspec

from mesh.control.vanished import Known, complete, remember
from mesh.model import MeshNode, Snapshot

log = logging.getLogger("seine.agent")


class HeldNodes:
    def __init__(self, directory: Path, hold_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory, self._hold_seconds, self._clock = directory, hold_seconds, clock
        self.lost = 0  # lists that went without a goodbye, so far
        self._known: Known = self._load()
        self._made: tuple[Snapshot, Known, Snapshot] | None = None  # of what, and what of it

    def complete(self, found: Snapshot) -> Snapshot:
        """With the nodes whose lists are missing."""
        before, self._known = self._known, remember(self._known, found, self._clock(), self._hold_seconds)
        for name in before.keys() | self._known.keys():
            if before.get(name) != self._known.get(name):
                self._changed(name, before.get(name), self._known.get(name))
        if self._made is None or self._made[0] is not found or self._made[1] != self._known:
            self._made = (found, self._known, complete(found, self._known))
        return self._made[2]

    def missing(self, node: MeshNode) -> tuple[float, float]:
        """For how many seconds its list is missing already, and for how many more it holds."""
        if node.missing_since is None:
            return 0.0, 0.0
        gone = max(0.0, self._clock() - node.missing_since)
        return gone, max(0.0, self._hold_seconds - gone)

    def problem(self, node: MeshNode) -> str:
        """A sentence, if its list is missing."""
        gone, left = self.missing(node)
        if node.missing_since is None:
            return ""
        return (
            f"the MeshNode of {node.name} is gone for {gone / 60:.0f} min, and it did not say goodbye:"
            f" the {len(node.workloads)} pods that it listed are reached by tunnel or not at all,"
            f" for {left / 3600:.1f} h more"
        )

    def _changed(self, name: str, before: MeshNode | None, now: MeshNode | None) -> None:
        was_missing = before is not None and before.missing_since is not None
        if now is not None and now.missing_since is not None and not was_missing:
            self.lost += 1
            log.warning("%s", self.problem(now))
        elif was_missing and now is not None:
            log.info("the MeshNode of %s is back", name)
        elif was_missing:
            log.warning("what node %s listed does not hold any more: its pods are reached as without a mesh", name)
        self._keep(name, now)

    def _load(self) -> Known:
        found = {}
        for path in sorted(self._directory.glob("*.json")):
            try:
                node = msgspec.json.decode(path.read_bytes(), type=MeshNode)
            except (OSError, msgspec.DecodeError) as error:
                log.warning("%s is not read: %s; should its node's list be gone, nobody remembers it", path, error)
                continue
            found[node.name] = node
        return found

    def _keep(self, name: str, node: MeshNode | None) -> None:
        path = self._directory / f"{quote(name, safe='')}.json"
        try:
            if node is None:
                path.unlink(missing_ok=True)
                return
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(node))
            fresh.replace(path)
        except OSError as error:  # a full disk must not stop the mesh from following its source
            log.warning("what node %s lists is not remembered over a restart: %s", name, error.strerror)
