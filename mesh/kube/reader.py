"""One file of Kubernetes YAML -> the facts in it and a sentence for every fault, without blocking the loop for long.

An object of a kind that we do not use is ignored, with one note per kind; one of a kind that we use, in a version that
we do not read, is a fault: its author expects it to count.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from mesh.config import SourceConfig
from mesh.kube.assemble import Placed
from mesh.kube.documents import BadDocument, Document, Value, documents, shown
from mesh.kube.objects import KINDS, Object
from mesh.kube.parse import Facts, decode, parse
from mesh.kube.settings import BadField, strangers
from mesh.model import Value as Frozen

log = logging.getLogger("seine.source")
NOTES_MAX = 1000  # kinds to tell apart; a hostile file can invent any number

Fault = tuple[int, str]  # line, reason


class Reading(Frozen):
    """`placed` and `warnings` count only if there are no `errors`."""

    text: str = ""
    placed: tuple[Placed, ...] = ()
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Reader:
    def __init__(self, config: SourceConfig) -> None:
        self._config = config
        self._noted: set[str] = set()

    async def read(self, path: Path, name: str) -> Reading:
        """The file at `path`; sentences call it `name`. Never raises for what is in it."""
        text = ""
        placed: list[Placed] = []
        faults: list[Fault] = []
        doubts: list[Fault] = []
        try:
            text = read_text(path, self._config.file_bytes_max)
            for document in documents(text, self._config):
                await asyncio.sleep(0)
                for line, facts in self._objects(document, faults, doubts) if document else ():
                    placed.append(Placed(file=name, line=line, facts=facts))
        except BadDocument as fault:
            faults.append((fault.line, fault.reason))
        except OSError as error:
            faults.append((1, f"cannot be read: {error.strerror}"))
        return Reading(
            text=text,
            placed=tuple(placed),
            errors=tuple(self._sentences(name, faults, "faults")),
            warnings=tuple(self._sentences(name, doubts, "such names")),
        )

    def _sentences(self, name: str, faults: list[Fault], what: str) -> Iterator[str]:
        most = self._config.errors_max
        for line, reason in faults[:most]:
            yield f"{name}:{line}: {reason}"
        if len(faults) > most:
            yield f"{name}:{faults[most][0]}: and {len(faults) - most} more {what} from here on"

    def _objects(self, document: Document, faults: list[Fault], doubts: list[Fault]) -> Iterator[tuple[int, Facts]]:
        for value, line in unfold(document):
            try:
                raw = self._raw(value)
                facts = parse(raw) if raw is not None else None
            except BadField as fault:
                faults.append(located(fault, document, value, line))
                continue
            if raw is not None:
                doubts += [located(doubt, document, value, line) for doubt in strangers(value["kind"], raw.metadata)]
            if facts is not None:
                yield line, facts

    def _raw(self, value: Value) -> Object | None:
        """None for what is none of our business; raises BadField."""
        if not isinstance(value, dict):
            raise BadField((), f"a Kubernetes object is a mapping, not {shown(value, 40)}")
        kind, version = value.get("kind"), value.get("apiVersion")
        if not isinstance(kind, str) or not isinstance(version, str):
            raise BadField((), "a Kubernetes object has apiVersion and kind")
        known = KINDS[kind][0] if kind in KINDS else ""
        if kind not in KINDS or group(known) != group(version):
            self._note(f"{kind} of {version}")
            return None
        if version != known:
            raise BadField(("apiVersion",), f"{version} is not understood here, only {known}")
        return decode(value, kind)

    def _note(self, what: str) -> None:
        if what not in self._noted and len(self._noted) < NOTES_MAX:
            self._noted.add(what)
            log.info("objects like %s are not used here and ignored", shown(what))


def group(version: str) -> str:
    return version.rpartition("/")[0]


def located(fault: BadField, document: Document, value: Value, line: int) -> Fault:
    return document.line_of(fault.path, value, line), f"{title(value)}{fault}"


def title(value: Value) -> str:
    """How a fault's sentence begins, as far as the object says who it is."""
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return ""
    meta = value.get("metadata")
    name = meta.get("name") if isinstance(meta, dict) else None
    kind = shown(value["kind"], 40)[1:-1]
    return f"{kind} {name[:80]}: " if isinstance(name, str) and name.isprintable() else f"{kind}: "


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
    items = value.get("items", [])
    lines = document.lines.get(id(items), {})
    for index, item in enumerate(items):
        if kind != "List" and isinstance(item, dict):  # a PodList's items need not repeat what they are
            item.setdefault("kind", kind.removesuffix("List"))
            item.setdefault("apiVersion", value.get("apiVersion"))
        yield item, lines.get(index, document.line)
