"""One kind, followed: three stacked generators, each with one more guarantee (kopf's lesson).

    once     lists, if there is no resource version to go on from, and watches from there until the watch ends
    whole    watch after watch without a gap, from one list until the server has forgotten where we were
    forever  list after list, whatever happens, not more often than is good

What happened is told as events (see decode.py). A list comes by WatchList, object by object, where the server offers
it: it spares both sides the whole list in memory; else in pages. A watch that was cut goes on where it was; only 410,
garbage and a refusal need a new list. The end of a watch is normal (the server ends each after a while).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol
from urllib.parse import urlencode

import msgspec

from mesh.config import ApiConfig
from mesh.kube import objects
from mesh.kube.api.access import AccessError
from mesh.kube.api.backoff import delay
from mesh.kube.api.decode import Alive, Began, Complete, Decoder, Event, Garbage, Gone, Lines, Refusal
from mesh.kube.api.http1 import BadResponse

CANNOT_STREAM = (400, 405, 422)  # what a server (from 1.27 on) says to sendInitialEvents when it is switched off
HOPELESS = (401, 403, 404)  # waiting alone does not help
WAY = (OSError, BadResponse, AccessError)  # the way to the server: we may go on where we were
ENDS = (*WAY, Garbage, Gone, Refusal)


class Answer(Protocol):
    @property
    def status(self) -> int: ...
    def pieces(self) -> AsyncGenerator[bytes, None]: ...
    async def read(self, most: int) -> bytes: ...
    async def refuse(self) -> Exception: ...


class Asks(Protocol):
    """A connection; mesh.kube.api.client.Session is one."""

    skew_seconds: float

    async def ask(self, target: str) -> Answer: ...
    def close(self) -> None: ...


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """Which objects."""

    name: str
    path: str
    selector: str = ""  # of fields

    def target(self, **query: str | int) -> str:
        asked: dict[str, str | int] = {"fieldSelector": self.selector} if self.selector else {}
        return f"{self.path}?{urlencode(asked | query)}"


def kind_of(name: str, selector: str = "") -> Kind:
    """Of one that objects.KINDS has. Its plural is what Kubernetes itself would guess, and so are all that we read."""
    version = objects.KINDS[name][0]
    lower = name.lower()
    plural = f"{lower[:-1]}ies" if lower.endswith("y") else f"{lower}s"
    root = "/apis" if "/" in version else "/api"
    return Kind(name=name, path=f"{root}/{version}/{plural}", selector=selector)


class Trouble(NamedTuple):
    """Why a kind is not told."""

    code: int  # of the server's refusal; 0: there was none
    reason: str


class Watcher:
    """`trouble`: while the server does not give this kind."""

    def __init__(
        self,
        kind: Kind,
        session: Asks,
        config: ApiConfig,
        sleep: Callable[[float], Awaitable[None]],
        chance: Callable[[], float],
    ) -> None:
        self.kind, self._session, self._config = kind, session, config
        self._sleep, self._chance = sleep, chance
        self._decoder = Decoder(objects.KINDS[kind.name][1])
        self.streams = True  # until the server says that it cannot
        self._page_objects = config.page_objects
        self._version = ""  # where a watch would go on; "": nowhere, a list is needed
        self._heard = False  # something came since the last failure
        self._lines_seen = 0
        self.trouble: Trouble | None = None
        self.absent = False  # forbidden, or not installed: nothing to wait for
        self.lists = 0
        self.failures = 0

    async def forever(self) -> AsyncGenerator[Event, None]:
        failed, asked = 0, 0
        while True:
            try:
                async with contextlib.aclosing(self.whole()) as events:
                    async for event in events:
                        yield event
            except ENDS as error:
                again, self._heard = self._heard, False
                self._version = self._version if _keeps_place(error) else ""
                if again and isinstance(error, Gone):
                    continue  # a new list at once, but not one after the other
                failed = 1 if again else failed + 1
                asked = error.wait_seconds if isinstance(error, Refusal) else 0
                self._fail(error)
            yield Alive()
            await self._sleep(delay(failed, self._chance(), slow=self.absent, asked=asked))

    @property
    def skew_seconds(self) -> float:
        """By how much the server's clock was ahead of ours at its last answer."""
        return self._session.skew_seconds

    def close(self) -> None:
        self._session.close()

    async def whole(self) -> AsyncGenerator[Event, None]:
        """Raises one of ENDS; there is no other end."""
        while True:
            before = self._lines_seen
            async with contextlib.aclosing(self.once()) as events:
                async for event in events:
                    yield event
            if self._lines_seen == before:
                raise ConnectionError("a watch ended as soon as it had begun")

    async def once(self) -> AsyncGenerator[Event, None]:
        steps = self._watch() if self._version else self._pages()
        if not self._version and (answer := await self._offered()):
            steps = self._stream(answer)
        async with contextlib.aclosing(steps) as events:
            async for event in events:
                yield event

    async def _offered(self) -> Answer | None:
        """The answer to a WatchList, unless the server cannot."""
        if not self.streams:
            return None
        answer = await self._session.ask(self._watching(sendInitialEvents="true", resourceVersionMatch="NotOlderThan"))
        self.streams = answer.status not in CANNOT_STREAM
        if self.streams:
            return answer
        await answer.refuse()
        return None

    async def _stream(self, answer: Answer) -> AsyncGenerator[Event, None]:
        """Everything there is, and then what happens, in one watch."""
        if answer.status != 200:
            raise await answer.refuse()
        async with contextlib.aclosing(self._lines(answer)) as lines:
            self.lists += 1
            yield Began()
            async for event, version in lines:
                if isinstance(event, Complete):
                    self._completed(version)
                elif self._version:
                    self._remember(version)
                yield event

    async def _pages(self) -> AsyncGenerator[Event, None]:
        more, version = "", ""
        while True:
            query = {"continue": more} if more else {}
            answer = await self._session.ask(self.kind.target(limit=self._page_objects, **query))
            if answer.status != 200:
                raise await answer.refuse()
            if not more:
                self.lists += 1
                yield Began()
            try:
                page = self._decoder.page(await answer.read(self._config.page_bytes_max))
            except Garbage:
                self._page_objects = max(1, self._page_objects // 2)  # it may have been too large
                raise
            for event in page.events:
                yield event
            self._lines_seen += 1
            more, version = page.more, page.version
            if not more:
                break
        self._completed(version)
        yield Complete()

    async def _watch(self) -> AsyncGenerator[Event, None]:
        answer = await self._session.ask(self._watching(resourceVersion=self._version))
        if answer.status != 200:
            raise await answer.refuse()
        async with contextlib.aclosing(self._lines(answer)) as lines:
            self.trouble = None
            yield Alive()
            async for event, version in lines:
                self._remember(version)
                yield event

    def _watching(self, **query: str) -> str:
        seconds = int(self._config.watch_seconds * (0.75 + self._chance() / 2))  # not all agents at once
        return self.kind.target(watch="true", allowWatchBookmarks="true", timeoutSeconds=seconds, **query)

    async def _lines(self, answer: Answer) -> AsyncGenerator[tuple[Event, str], None]:
        lines = Lines()
        async with contextlib.aclosing(answer.pieces()) as pieces:
            async for piece in pieces:
                for line in lines.feed(piece):
                    self._lines_seen += 1
                    yield self._decoder.line(line)

    def _completed(self, version: str) -> None:
        self._version, self.trouble, self.absent = version, None, False

    def _remember(self, version: str) -> None:
        self._version = version or self._version
        self._heard, self.trouble = True, None

    def _fail(self, failure: Exception) -> None:
        self.failures += 1
        code = failure.code if isinstance(failure, Refusal) else 0
        self.absent = code in HOPELESS
        self.trouble = Trouble(code, str(failure) or type(failure).__name__)


def _keeps_place(failure: Exception) -> bool:
    """Whether a watch may go on where it was: the way failed, or the server had no time."""
    return isinstance(failure, WAY) or (isinstance(failure, Refusal) and (failure.code == 429 or failure.code >= 500))


def told(kinds: Sequence[str], trouble: Trouble) -> str:
    """What the operator reads."""
    objects_of = f"{', '.join(kinds)} objects"
    match trouble.code:
        case 403:
            return f"API server: it forbids us {objects_of}, what was known stays: {trouble.reason}"
        case 404:
            return f"API server: it has no {objects_of}; is their definition installed? Until then there are none"
    return f"API server: {objects_of} are not told at present, what was known stays: {trouble.reason}"
