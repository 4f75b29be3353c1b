"""Single questions to the API server, several at a time: all that is no list that is followed.

Answers are decoded JSON. Everything that may go wrong is an ApiFailure with a sentence: `code` is the server's status,
0 where there was no answer. Nothing is tried again here: whoever asks knows what that would mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import msgspec

from mesh.kube.api.access import Access, AccessError
from mesh.kube.api.client import Session
from mesh.kube.api.decode import Garbage, Gone, Refusal
from mesh.kube.api.http1 import BadResponse

Object = dict[str, Any]
ANSWER_SECONDS = 10.0
ANSWER_BYTES_MAX = 64 << 20  # a list of 10 000 small objects
AT_ONCE = 16  # connections; whoever comes then waits for his turn
IDLE_SECONDS = 60.0  # then a connection is made anew: kube-apiserver closes its own after 90
APPLY, MERGE = "application/apply-patch+yaml", "application/merge-patch+json"  # JSON is YAML

CONFLICT, MISSING = 409, 404


class ApiFailure(Exception):
    """A sentence."""

    def __init__(self, sentence: str, code: int = 0) -> None:
        super().__init__(sentence)
        self.code = code


class Requests:
    """`manager`: as whom we own fields."""

    def __init__(self, access: Access, manager: str) -> None:
        self._access, self._manager = access, manager
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._idle: list[tuple[float, Session]] = []

    async def get(self, path: str, **query: str) -> Object:
        return await self.ask("GET", f"{path}?{urlencode(query)}" if query else path)

    async def find(self, path: str) -> Object | None:
        """None where there is none."""
        try:
            return await self.ask("GET", path)
        except ApiFailure as failure:
            if failure.code == MISSING:
                return None
            raise

    async def create(self, path: str, made: Object) -> Object:
        return await self.ask("POST", f"{path}?fieldManager={self._manager}", made)

    async def replace(self, path: str, made: Object) -> Object:
        """With the resource version that it had: a conflict when it has another now."""
        return await self.ask("PUT", f"{path}?fieldManager={self._manager}", made)

    async def apply(self, path: str, made: Object) -> Object:
        """Made or changed; what others own in it stays."""
        return await self.ask("PATCH", f"{path}?fieldManager={self._manager}&force=true", made, APPLY)

    async def merge(self, path: str, changes: Object) -> Object:
        """Of what is there: lists are replaced, null removes."""
        return await self.ask("PATCH", f"{path}?fieldManager={self._manager}", changes, MERGE)

    async def delete(self, path: str) -> None:
        """Nothing when it is gone."""
        try:
            await self.ask("DELETE", path)
        except ApiFailure as failure:
            if failure.code != MISSING:
                raise

    async def ask(self, method: str, target: str, body: Object | None = None, kind: str = "application/json") -> Object:
        text = b"" if body is None else msgspec.json.encode(body)
        try:
            async with self._session() as session:
                answer = await session.ask(target, method, text, kind)
                if not 200 <= answer.status < 300:
                    raise await answer.refuse()
                return _decoded(await answer.read(ANSWER_BYTES_MAX))
        except Refusal as error:
            raise ApiFailure(f"the API server refuses {method} {_place(target)}: {error}", error.code) from None
        except Gone:
            raise ApiFailure(f"the API server does not know {_place(target)} any more", 410) from None
        except (OSError, BadResponse, AccessError, Garbage) as error:
            raise ApiFailure(f"the API server does not answer {method} {_place(target)}: {error}") from None

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        async with self._turn:
            session = self._kept() or Session(self._access, ANSWER_SECONDS)
            try:
                yield session
            finally:
                self._idle.append((time.monotonic(), session))

    def _kept(self) -> Session | None:
        while self._idle:
            since, session = self._idle.pop()
            if time.monotonic() - since < IDLE_SECONDS:
                return session
            session.close()
        return None

    def close(self) -> None:
        while self._idle:
            self._idle.pop()[1].close()


def _decoded(content: bytes) -> Object:
    try:
        found: Object = msgspec.json.decode(content, type=dict)
    except msgspec.DecodeError as error:
        raise Garbage(f"an answer that is none: {error}") from None
    return found


def _place(target: str) -> str:
    return target.partition("?")[0]
