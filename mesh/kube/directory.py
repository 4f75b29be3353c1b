"""A directory of Kubernetes YAML as a source: *.yaml, *.yml and *.json, not recursive, as `kubectl apply -f DIR`.

* A file is taken whole or not at all: while it has a fault, its last good objects stay, and the fault is told as
  "FILE:LINE: reason". A deleted file's objects go; while the directory itself cannot be read, everything stays.
* `keep`, a directory of our own, has a copy of what each file last said well, so that a restart of the agent does not
  turn a fault in a file into an outage of its pods. Without it a file that was never good gives nothing.
* Changes are found by polling stat, not by inotify: it sees through ConfigMap symlink swaps, bind mounts and network
  file systems, cannot overflow, and costs 20 us for ten files. A change counts once two polls running saw the same
  state, so that an editor's half-written file is left to settle (a writer that pauses longer should rename instead).
* Hidden files and editors' backups are not looked at.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from msgspec import structs

from mesh.config import SourceConfig
from mesh.kube.assemble import Placed, assemble
from mesh.kube.listings import Seats
from mesh.kube.reader import Reader
from mesh.model import Mtls, Snapshot

log = logging.getLogger("seine.source")
SUFFIXES = (".yaml", ".yml", ".json")

Fingerprint = tuple[int, ...]


class Held:
    """What a file gave: its last good objects, and what is wrong with it now."""

    def __init__(self) -> None:
        self.seen: Fingerprint | None = None  # at the last poll
        self.taken: Fingerprint | None = None  # when it was last read
        self.placed: tuple[Placed, ...] = ()
        self.errors: tuple[str, ...] = ()
        self.warnings: tuple[str, ...] = ()  # about `placed`


class DirectorySource:
    """Follow it with `watch`. `node`, `mtls`: see `assemble`."""

    def __init__(
        self,
        directory: Path,
        node: str = "",
        config: SourceConfig | None = None,
        keep: Path | None = None,
        mtls: Mtls = Mtls.PERMISSIVE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory, self.node, self.keep, self.mtls = directory, node, keep, mtls
        self.counts: dict[str, tuple[int, int]] = {}  # lists and failures by kind: files have none
        self.name = f"directory {directory}"  # for people
        self.looked_at = clock()  # the last time that the directory could be read
        self._clock = clock
        self._config = config or SourceConfig()
        self._reader = Reader(self._config)
        self._held: dict[str, Held] = {}
        self._seats: Seats = frozenset()
        self._started = False
        self._trouble = ""  # with the directory as a whole

    async def watch(self) -> AsyncIterator[Snapshot]:
        """What is there at once, then the whole again after each change, for ever."""
        last = None
        while True:
            snapshot = await self.poll()
            if snapshot is None and last is None:
                snapshot = self._assemble()  # somebody followed before, and may not have got to the end of it
            if snapshot is not None and snapshot != last:
                last = snapshot
                yield snapshot
            await asyncio.sleep(self._config.poll_seconds)

    async def poll(self) -> Snapshot | None:
        """One look at the directory: the new snapshot if anything settled, else None."""
        before, self._trouble = self._trouble, ""
        present = self._scan()
        changed = not self._started or before != self._trouble
        if present is not None:
            self.looked_at = self._clock()
            if not self._started:
                self._forget_all_but(present)
            for name in sorted(self._held.keys() | present.keys()):
                changed |= await self._look_at(name, present.get(name))
            self._started = True
        return self._assemble() if changed else None

    def _assemble(self) -> Snapshot:
        held = [self._held[name] for name in sorted(self._held)]
        placed = [each for one in held for each in one.placed]
        snapshot, self._seats = assemble(placed, self.node, self._seats, self.mtls)
        own = (self._trouble,) if self._trouble else ()
        return structs.replace(
            snapshot,
            errors=(*own, *(error for one in held for error in one.errors), *snapshot.errors),
            warnings=(*(warning for one in held for warning in one.warnings), *snapshot.warnings),
        )

    def _scan(self) -> dict[str, Fingerprint] | None:
        """Name -> state of each file of ours; None if the directory cannot be read."""
        try:
            names = sorted(name for name in os.listdir(self.directory) if is_ours(name))
        except OSError as error:
            self._trouble = f"{self.directory}: cannot be read ({error.strerror}); what was known stays"
            return None
        most = self._config.files_max
        if len(names) > most:
            self._trouble = f"{self.directory}: more than {most} files; {names[most]} and later are not read"
        return {name: fingerprint(self.directory / name) for name in names[:most]}

    async def _look_at(self, name: str, now: Fingerprint | None) -> bool:
        """Whether what we hold of this file changed."""
        held = self._held.setdefault(name, Held())
        settled = now == held.seen or not self._started
        held.seen = now
        if not settled or now == held.taken:
            return False
        if now is None:
            del self._held[name]
            self._forget(name)
            return True
        held.taken = now
        await self._take(name, held)
        return True

    async def _take(self, name: str, held: Held) -> None:
        shown = str(self.directory / name)
        reading = await self._reader.read(self.directory / name, shown)
        held.errors = reading.errors
        if not reading.errors:
            held.placed, held.warnings = reading.placed, reading.warnings
            self._remember(name, reading.text)
        elif not self._started and self.keep is not None:
            kept = await self._reader.read(self.keep / name, shown)
            if not kept.errors:
                held.placed, held.warnings = kept.placed, kept.warnings

    def _remember(self, name: str, text: str) -> None:
        if self.keep is None:
            return
        fresh = self.keep / f".{name}.new"
        try:
            self.keep.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(self.keep / name)
        except OSError as error:  # a full disk must not stop the mesh from following its source
            log.warning("no copy of %s for the next start: %s", name, error)

    def _forget(self, name: str) -> None:
        if self.keep is not None:
            (self.keep / name).unlink(missing_ok=True)

    def _forget_all_but(self, present: Mapping[str, Fingerprint]) -> None:
        """What was deleted while no agent ran must not come back with a later file of its name."""
        if self.keep is not None and self.keep.is_dir():
            for name in set(os.listdir(self.keep)) - present.keys():
                self._forget(name)


def is_ours(name: str) -> bool:
    return name.endswith(SUFFIXES) and not name.startswith((".", "#"))


def fingerprint(path: Path) -> Fingerprint:
    """Any edit, swap or rename changes it; so does becoming unreadable, which is told once it has settled."""
    try:
        state = os.stat(path)
    except OSError as error:
        return (error.errno or 0,)
    return (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino, state.st_dev, state.st_mode)
