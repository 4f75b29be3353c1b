"""YAML text -> plain values that remember their lines. Strict where YAML invites accidents, bounded everywhere.

PyYAML's own composers recurse per level (200 000 brackets crash the interpreter, seen) and build an alias bomb in full
as soon as somebody walks it. So this one reads libyaml's events with a stack of its own and counts values with every
alias expanded. As kubectl does: duplicate keys are refused, timestamps stay text, yes/no/on/off are booleans, keys are
text, an entry that is null counts as absent. Merge keys and tags are refused. JSON is YAML, but for escaped surrogates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from mesh.config import SourceConfig

STANDARD_TAG = "tag:yaml.org,2002:"
NULLS = {"", "~", "null", "Null", "NULL"}
TRUE = {"yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"}
FALSE = {"no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"}
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,18}|0x[0-9a-fA-F]{1,16})")  # beyond 64 bits it stays text
DECIMAL = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?")

TOO_DEEP = "exceeded maximum nesting depth"  # newer libyaml's own limit, 1000, met while it looks ahead
TURN_EVENTS = 4096  # about 20 ms of work

Value = Any  # dict[str, Value] | list[Value] | str | int | float | bool | None
Path = tuple[str | int, ...]


class BadDocument(ValueError):
    """Where and why a text was refused."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason = line, reason


@dataclass(slots=True)
class Document:
    """One document; `lines` knows, by identity of the container, the line of each entry."""

    value: Value
    line: int
    lines: dict[int, dict[str | int, int]]

    def line_of(self, path: Path, within: Value = None, line: int = 0) -> int:
        """The line of the deepest part of `path` that is written down, from `within` (the root if not given)."""
        here, line = (self.value, self.line) if within is None else (within, line)
        for step in path:
            entries = self.lines.get(id(here), {})
            if step not in entries:
                break
            line = entries[step]
            if isinstance(here, dict):
                here = here.get(str(step))
            else:
                here = here[step]
        return line


@dataclass(slots=True)
class _Frame:
    """A container that is still open."""

    value: dict[str, Value] | list[Value]
    line: int
    anchor: str | None
    before: int  # values counted when it was opened
    lines: dict[str | int, int] = field(default_factory=dict)
    key: str | None = None


def documents(text: str, limits: SourceConfig) -> Iterator[Document | None]:
    """The documents of a text, in order, empty ones left out; raises BadDocument at the first fault.

    None, now and then: nothing yet, a moment to let others run.
    """
    composer = _Composer(limits)
    try:
        for count, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader), 1):
            document = composer.feed(event)
            if document is not None or count % TURN_EVENTS == 0:
                yield document
    except yaml.MarkedYAMLError as error:
        line, reason = _syntax(error, text.count("\n"), composer.open_line)
        if error.problem == TOO_DEEP:
            reason = too_deep(limits)
        raise BadDocument(line, reason) from None
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        raise BadDocument(line, f"not YAML: {error.reason}") from None


def too_deep(limits: SourceConfig) -> str:
    return f"nested deeper than {limits.depth_max} levels"


def _syntax(error: yaml.MarkedYAMLError, last: int, open_line: int) -> tuple[int, str]:
    """Line and reason. What was never closed is told where it was opened, not at the end of the text."""
    reason = ", ".join(filter(None, ("not YAML", error.context, error.problem)))
    lines = [mark.line for mark in (error.problem_mark, error.context_mark) if mark is not None]
    return next((line + 1 for line in lines if line < last), open_line), reason


class _Composer:
    def __init__(self, limits: SourceConfig) -> None:
        self._limits = limits
        self._count = 0  # over the whole text
        self._start(1)

    def _start(self, line: int) -> None:
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Value, int]] = {}  # name -> value, its size
        self._lines: dict[int, dict[str | int, int]] = {}
        self._root: Value = None
        self._line = line

    @property
    def open_line(self) -> int:
        """Where the innermost container that is still open began."""
        return self._stack[-1].line if self._stack else self._line

    def feed(self, event: yaml.Event) -> Document | None:
        mark = event.start_mark
        line = mark.line + 1 if mark else 1
        match event:
            case yaml.DocumentStartEvent():
                self._start(line)
            case yaml.ScalarEvent():
                self._scalar(event, line)
            case yaml.AliasEvent():
                self._alias(event, line)
            case yaml.MappingStartEvent():
                self._open(event, {}, line)
            case yaml.SequenceStartEvent():
                self._open(event, [], line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.DocumentEndEvent() if self._root is not None:
                return Document(self._root, self._line, self._lines)
        return None

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        frame = self._stack[-1] if self._stack else None
        if frame is not None and isinstance(frame.value, dict) and frame.key is None:
            self._key(frame, event, line)
            return
        _refuse_tag(event, line, "str", "int", "float", "bool", "null")
        plain = event.implicit[0] or event.tag not in (None, "!", STANDARD_TAG + "str")
        value = resolve(event.value) if plain else event.value
        self._count_up(1, line)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._place(value, line)

    def _key(self, frame: _Frame, event: yaml.ScalarEvent, line: int) -> None:
        if event.value == "<<" and event.implicit[0]:
            raise BadDocument(line, "merge keys (<<) are not understood; write the entries out")
        if event.value in frame.lines:
            raise BadDocument(
                line, f"the key {shown(event.value)} is here twice, first in line {frame.lines[event.value]}"
            )
        if event.anchor:
            self._anchors[event.anchor] = (event.value, 1)
        frame.key = event.value
        frame.lines[event.value] = line

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        if event.anchor not in self._anchors:
            raise BadDocument(line, f"the alias *{event.anchor} has no finished anchor before it")
        value, size = self._anchors[event.anchor]
        self._count_up(size, line)
        self._refuse_as_key(line)
        self._place(value, line)

    def _open(self, event: yaml.NodeEvent, value: dict[str, Value] | list[Value], line: int) -> None:
        _refuse_tag(event, line, "map", "seq")
        self._refuse_as_key(line)
        if len(self._stack) >= self._limits.depth_max:
            raise BadDocument(line, too_deep(self._limits))
        if not self._stack:
            self._line = line
        self._stack.append(_Frame(value, line, event.anchor, self._count))
        self._count_up(1, line)

    def _close(self) -> None:
        frame = self._stack.pop()
        self._lines[id(frame.value)] = frame.lines
        if frame.anchor:
            self._anchors[frame.anchor] = (frame.value, self._count - frame.before)
        self._place(frame.value, frame.line)

    def _place(self, value: Value, line: int) -> None:
        if not self._stack:
            self._root = value
            return
        frame = self._stack[-1]
        if isinstance(frame.value, list):
            frame.lines[len(frame.value)] = line
            frame.value.append(value)
        else:
            if value is not None and frame.key is not None:
                frame.value[frame.key] = value
            frame.key = None

    def _refuse_as_key(self, line: int) -> None:
        if self._stack and isinstance(self._stack[-1].value, dict) and self._stack[-1].key is None:
            raise BadDocument(line, "a key must be text")

    def _count_up(self, values: int, line: int) -> None:
        self._count += values
        if self._count > self._limits.values_max:
            raise BadDocument(line, f"more than {self._limits.values_max} values, aliases expanded")


def _refuse_tag(event: yaml.NodeEvent, line: int, *names: str) -> None:
    tag = getattr(event, "tag", None)
    if tag not in (None, "!", *(STANDARD_TAG + name for name in names)):
        raise BadDocument(line, f"the tag {shown(tag)} is not understood")


def resolve(text: str) -> Value:
    """What a plain scalar means."""
    if text in NULLS:
        return None
    if text in TRUE or text in FALSE:
        return text in TRUE
    if INTEGER.fullmatch(text):
        return int(text, 0)
    if DECIMAL.fullmatch(text):
        return float(text)
    return text


def shown(value: object, most: int = 80) -> str:
    """A foreign value, safe and short enough for a sentence."""
    text = repr(value)
    return text if len(text) <= most else text[: most - 3] + "..."
