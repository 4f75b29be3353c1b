"""A directory of Kubernetes YAML as a source: *.yaml, *.yml and *.json, not recursive, as `kubectl apply -f DIR`.

* A file is taken whole or not at all: while it has a fault, its last good objects stay, and the fault is told as
  "FILE:LINE: reason". A file that was never good gives nothing. A deleted file's objects go; while the directory itself
  cannot be read, everything stays.
* Changes are found by polling stat, not by inotify: it sees through ConfigMap symlink swaps, bind mounts and network
  file systems, cannot overflow, and costs 20 us for ten files. A change counts once two polls running saw the same
  state, so that an editor's half-written file is left to settle (a writer that pauses longer should rename instead).
* Nothing blocks long: between documents the loop gets its turn. Hidden files and editors' backups are not looked at.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from msgspec import structs

from mesh.config import SourceConfig
from mesh.kube.assemble import Placed, Seats, assemble
from mesh.kube.documents import BadDocument, Document, Value, documents, shown
from mesh.kube.objects import KINDS
from mesh.kube.parse import Facts, decode, parse
from mesh.kube.settings import BadField
from mesh.model import Snapshot

log = logging.getLogger("seine.source")
SUFFIXES = (".yaml", ".yml", ".json")
TURN_DOCUMENTS = 16  # a slice of 1000 endpoints takes about 30 ms

Fingerprint = tuple[int, ...]


class Held:
    """What a file gave: its last good objects, and what is wrong with it now."""

    def __init__(self) -> None:
        self.seen: Fingerprint | None = None  # at the last poll
        self.taken: Fingerprint | None = None  # when it was last read
        self.placed: list[Placed] = []
        self.errors: list[str] = []


class DirectorySource:
    """Follow with `watch`. `node`: see `assemble`."""

    def __init__(self, directory: Path, node: str = "", config: SourceConfig | None = None) -> None:
        self.directory, self.node = directory, node
        self._config = config or SourceConfig()
        self._held: dict[str, Held] = {}
        self._seats: Seats = frozenset()
        self._ignored: set[str] = set()
        self._started = False
        self._trouble = ""  # with the directory as a whole

    async def watch(self) -> AsyncIterator[Snapshot]:
        """What is there at once, then the whole again after each change, for ever."""
        last = None
        while True:
            snapshot = await self.poll()
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
            for name in sorted(self._held.keys() | present.keys()):
                changed |= await self._look_at(name, present.get(name))
        self._started = True
        return self._assemble() if changed else None

    def _assemble(self) -> Snapshot:
        held = [self._held[name] for name in sorted(self._held)]
        placed = [each for one in held for each in one.placed]
        snapshot, self._seats = assemble(placed, self.node, self._seats)
        own = [self._trouble] if self._trouble else []
        errors = (*own, *(error for one in held for error in one.errors), *snapshot.errors)
        return structs.replace(snapshot, errors=errors)

    def _scan(self) -> dict[str, Fingerprint] | None:
        """Name -> state of each file of ours; None if the directory cannot be read."""
        found: dict[str, Fingerprint] = {}
        try:
            for name in sorted(os.listdir(self.directory)):
                if name.startswith(".") or not name.endswith(SUFFIXES):
                    continue
                if len(found) == self._config.files_max:
                    self._trouble = (
                        f"{self.directory}: more than {self._config.files_max} files; {name} and later are not read"
                    )
                    break
                try:
                    found[name] = fingerprint(os.stat(self.directory / name))
                except (
                    OSError
                ) as error:  # a dangling link, or deleted since: as if unreadable, which is told when settled
                    found[name] = (error.errno or 0,)
        except OSError as error:
            self._trouble = f"{self.directory}: cannot be read ({error.strerror}); what was known stays"
            return None
        return found

    async def _look_at(self, name: str, now: Fingerprint | None) -> bool:
        """Whether what we hold of this file changed."""
        held = self._held.setdefault(name, Held())
        settled = now == held.seen or not self._started
        held.seen = now
        if not settled or now == held.taken:
            return False
        if now is None:
            del self._held[name]
            return True
        held.taken = now
        placed, held.errors = await self._read(name, now)
        if not held.errors:
            held.placed = placed
        return True

    async def _read(self, name: str, expected: Fingerprint) -> tuple[list[Placed], list[str]]:
        """Its objects, and a sentence per fault."""
        path = self.directory / name
        placed: list[Placed] = []
        faults: list[tuple[int, str]] = []
        try:
            text = read_text(path, self._config.file_bytes_max)
            for count, document in enumerate(documents(text, self._config)):
                for line, fact in self._objects(document, faults):
                    placed.append(Placed(file=str(path), line=line, facts=fact))
                if count % TURN_DOCUMENTS == TURN_DOCUMENTS - 1:
                    await asyncio.sleep(0)
        except BadDocument as fault:
            faults.append((fault.line, fault.reason))
        except OSError as error:
            faults.append((1, f"cannot be read: {error.strerror}"))
        most = self._config.errors_max
        errors = [f"{path}:{line}: {reason}" for line, reason in faults[:most]]
        if len(faults) > most:
            errors.append(f"{path}:{faults[most][0]}: and {len(faults) - most} more faults from here on")
        return placed, errors

    def _objects(self, document: Document, faults: list[tuple[int, str]]) -> Iterator[tuple[int, Facts]]:
        for value, line in unfold(document):
            kind = str(value.get("kind", "")) if isinstance(value, dict) else ""
            try:
                if not self._ours(value, kind):
                    continue
                facts = parse(decode(value, kind))
            except BadField as fault:
                faults.append((document.line_of(fault.path, value, line), f"{kind or 'document'}: {fault.args[0]}"))
                continue
            if facts is not None:
                yield line, facts

    def _ours(self, value: Value, kind: str) -> bool:
        """Whether this is an object that we read; raises BadField for no object at all and for another version."""
        if not isinstance(value, dict):
            raise BadField((), f"a Kubernetes object is a mapping, not {shown(value, 40)}")
        version = value.get("apiVersion")
        if not kind or not isinstance(version, str):
            raise BadField((), "a Kubernetes object has apiVersion and kind")
        group = version.rpartition("/")[0]
        known, _ = KINDS.get(kind, ("", None))
        if kind not in KINDS or known.rpartition("/")[0] != group:
            if (title := f"{kind} of {version}") not in self._ignored and len(self._ignored) < 1000:
                self._ignored.add(title)
                log.info("objects like %s are not used and ignored", shown(title))
            return False
        if version != known:
            raise BadField(("apiVersion",), f"{kind} of {version} is not understood, only of {known}")
        return True


def fingerprint(state: os.stat_result) -> Fingerprint:
    """Any edit, swap or rename changes it."""
    return (state.st_mtime_ns, state.st_ctime_ns, state.st_size, state.st_ino, state.st_dev, state.st_mode)


def read_text(path: Path, most: int) -> str:
    """Raises OSError and BadDocument. Never waits: a FIFO is refused, not opened for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise BadDocument(1, "not a regular file")
        content = file.read(most + 1)
    if len(content) > most:
        raise BadDocument(1, f"larger than {most} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDocument(content[: error.start].count(b"\n") + 1, "not UTF-8") from None


def unfold(document: Document) -> Iterator[tuple[Value, int]]:
    """The objects of a document with their lines: itself, or the items of a List."""
    value = document.value
    kind = value.get("kind") if isinstance(value, dict) else None
    if not (isinstance(kind, str) and kind.endswith("List") and isinstance(value.get("items", []), list)):
        yield value, document.line
        return
    lines = document.lines.get(id(value.get("items")), {})
    for index, item in enumerate(value.get("items", [])):
        if kind != "List" and isinstance(item, dict):  # a PodList's items need not repeat what they are
            item.setdefault("kind", kind.removesuffix("List"))
            item.setdefault("apiVersion", value.get("apiVersion"))
        yield item, lines.get(index, document.line)
