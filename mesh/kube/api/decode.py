"""Pages of a list and lines of a watch -> events. Pure.

A watch tells its state by the last resource version: opaque text, only ever handed back. An object that breaks our
schema is an event of its own and disturbs no other; what is no JSON, or no answer of an API server, is Garbage and ends
this watch. Source: Kubernetes API concepts ("Efficient detection of changes", "Streaming lists").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from mesh.kube import objects

LINE_BYTES_MAX = 8 << 20  # one object; etcd takes 1.5 MiB, and JSON of it is larger
SHOWN_MAX = 200

Key = tuple[str, str]  # namespace ("" for what has none) and name


class Garbage(ValueError):
    """A sentence: the server said what no API server says."""


class Gone(Exception):
    """The server does not know what happened since our resource version: only a new list helps."""


class Refusal(Exception):
    """The server's answer is a Status: code and sentence. `wait_seconds`: for which it asks; 0: it says nothing."""

    def __init__(self, code: int, sentence: str, wait_seconds: int = 0) -> None:
        super().__init__(sentence)
        self.code, self.wait_seconds = code, wait_seconds


class Began(NamedTuple):
    """A list of everything begins; it ends with Complete."""


class Put(NamedTuple):
    """There is this object, new or changed."""

    key: Key
    object: objects.Object


class Broken(NamedTuple):
    """There is this object, and it breaks our schema."""

    key: Key
    reason: str


class Removed(NamedTuple):
    key: Key


class Complete(NamedTuple):
    """All objects have been told; what was not among them is gone."""


class Alive(NamedTuple):
    """Nothing changed; the server is there."""


Event = Began | Put | Broken | Removed | Complete | Alive


class _Meta(objects.Raw):
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Named(objects.Raw):
    metadata: _Meta = _Meta()


class _ListMeta(objects.Raw):
    resource_version: str = ""
    more: str = msgspec.field(default="", name="continue")


class _List(objects.Raw):
    metadata: _ListMeta
    items: list[msgspec.Raw] | None = None


class _Line(objects.Raw):
    type: str
    object: msgspec.Raw


class _Details(objects.Raw):
    retry_after_seconds: int = 0


class _Status(objects.Raw):
    kind: str
    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None


class Page(NamedTuple):
    events: list[Event]
    version: str  # of the whole list
    more: str  # the token of the next page; "" on the last


class Decoder:
    """Of one kind."""

    def __init__(self, kind: type[objects.Object]) -> None:
        self._object = msgspec.json.Decoder(kind)
        self._named = msgspec.json.Decoder(_Named)
        self._list = msgspec.json.Decoder(_List)
        self._line = msgspec.json.Decoder(_Line)

    def page(self, content: bytes) -> Page:
        """Raises Garbage."""
        try:
            found = self._list.decode(content)
        except msgspec.DecodeError as error:
            raise Garbage(f"a list that is none: {error}") from None
        return Page(
            [self._put(item)[0] for item in found.items or ()], found.metadata.resource_version, found.metadata.more
        )

    def line(self, content: bytes) -> tuple[Event, str]:
        """One line of a watch, and the resource version after it. Raises Garbage, Gone and Refusal."""
        try:
            line = self._line.decode(content)
        except msgspec.DecodeError as error:
            raise Garbage(f"a line of a watch that is none: {error}") from None
        match line.type:
            case "ADDED" | "MODIFIED":
                return self._put(line.object)
            case "DELETED":
                meta = self._meta(line.object)
                return Removed((meta.namespace, meta.name)), meta.resource_version
            case "BOOKMARK":
                meta = self._meta(line.object)
                ends = (meta.annotations or {}).get("k8s.io/initial-events-end") == "true"
                return Complete() if ends else Alive(), meta.resource_version
            case "ERROR":
                raise refusal(0, bytes(line.object))
        raise Garbage(f"an event of type {line.type[:40]!r}")

    def _put(self, content: msgspec.Raw) -> tuple[Event, str]:
        try:
            found = self._object.decode(content)
        except msgspec.ValidationError as error:
            named = self._meta(content)
            return Broken((named.namespace, named.name), f"breaks its schema: {error}"), named.resource_version
        except msgspec.DecodeError as error:
            raise Garbage(f"an object that is none: {error}") from None
        meta = found.metadata
        return Put((meta.namespace, meta.name), found), meta.resource_version

    def _meta(self, content: msgspec.Raw) -> _Meta:
        try:
            return self._named.decode(content).metadata
        except msgspec.DecodeError as error:
            raise Garbage(f"an object without a name: {error}") from None


def refusal(code: int, content: bytes) -> Gone | Refusal:
    """What a Status, or an answer other than 200, means."""
    wait = 0
    try:
        status = msgspec.json.decode(content, type=_Status)
        code, sentence = status.code or code, status.message or status.reason
        wait = status.details.retry_after_seconds if status.details else 0
    except msgspec.DecodeError:
        sentence = content[:SHOWN_MAX].decode("utf-8", "replace")
    if code == 410:
        return Gone()
    return Refusal(code, f"{code} {sentence[:SHOWN_MAX]}".strip(), wait)


class Lines:
    """Pieces of a body -> whole lines."""

    def __init__(self, most: int = LINE_BYTES_MAX) -> None:
        self._most = most
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Raises Garbage for a line that is too long."""
        *whole, rest = piece.split(b"\n")
        for end in whole:
            yield b"".join((*self._parts, end))
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        if self._size > self._most:
            raise Garbage(f"a line of more than {self._most} bytes")
