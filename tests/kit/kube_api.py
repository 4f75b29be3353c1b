"""A stand-in for kube-apiserver that can misbehave on command: lists in pages, WatchList, watches, server-side apply.

    async with FakeApi() as api:
        api.put(service("web"))
        ...KubernetesSource(api.access, "node-1")

It remembers every request (`asked`), as "METHOD PATH?QUERY". What real servers do beyond this is
tested with a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mesh.kube.api.access import Credentials
from mesh.kube.api.watching import kind_of
from mesh.kube.objects import KINDS
from tests.kit.lab import Lab
from tests.kit.manifests import Manifests

Object = dict[str, Any]
MET_SECONDS = 20  # far above what anything here takes


class FakeAccess:
    name = "a stand-in"

    def __init__(self, server: str) -> None:
        self.server, self.token, self.forgotten = server, "secret", 0

    async def credentials(self) -> Credentials:
        return Credentials(server=self.server, token=self.token)

    def forget(self) -> None:
        self.forgotten += 1


class FakeApi:
    def __init__(self) -> None:
        self.version = 100
        self.oldest = 0  # events before it are forgotten: 410
        self.streams = True  # WatchList is offered
        self.refusals: dict[str, int] = {}  # kind -> status
        self.ahead_seconds = 0.0  # its clock
        self.answers: dict[str, bytes] = {}  # kind -> what a list or watch answers instead, raw
        self.objects: dict[str, dict[tuple[str, str], Object]] = defaultdict(dict)  # by path
        self.events: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
        self.applied: dict[str, Object] = {}  # by path
        self.created = 404  # what a POST is answered
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self._news = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeApi:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.access = FakeAccess(f"http://127.0.0.1:{self.port}")

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Every connection, in whatever it is."""
        for writer in self._writers:
            writer.transport.abort()

    # --- what is there

    def put(self, made: Object) -> None:
        meta, path = made["metadata"], kind_of(made["kind"]).path
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        key = (meta.get("namespace", ""), meta["name"])
        self._tell(path, "MODIFIED" if key in self.objects[path] else "ADDED", made)
        self.objects[path][key] = made

    def delete(self, made: Object) -> None:
        path = kind_of(made["kind"]).path
        self.version += 1
        gone = self.objects[path].pop((made["metadata"].get("namespace", ""), made["metadata"]["name"]))
        self._tell(path, "DELETED", gone | {"metadata": gone["metadata"] | {"resourceVersion": str(self.version)}})

    def bookmark(self, kind: str) -> None:
        self._tell(kind_of(kind).path, "BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    def say(self, kind: str, line: bytes) -> None:
        """Anything, in the watches of a kind."""
        self.version += 1
        self.events[kind_of(kind).path].append((self.version, line))
        self._wake()

    def forget(self) -> None:
        """As after a compaction, or a restart: whoever was at an older version has to list again."""
        self.version += 1
        self.oldest = self.version
        self._wake()

    def requests(self, kind: str, *words: str) -> list[str]:
        path = kind_of(kind).path
        return [each for each in self.asked if f" {path}?" in each and all(word in each for word in words)]

    def _tell(self, path: str, what: str, made: Object) -> None:
        self.events[path].append((self.version, json.dumps({"type": what, "object": made}).encode() + b"\n"))
        self._wake()

    def _wake(self) -> None:
        async def wake() -> None:
            async with self._news:
                self._news.notify_all()

        self._waker = asyncio.ensure_future(wake())

    # --- conversations

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    method, target, _ = head.split("\r\n", 1)[0].split(" ")
                    headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                    body = await reader.readexactly(int(headers.get("content-length", 0)))
                    self.asked.append(f"{method} {target}")
                    self.tokens.append(headers.get("authorization", ""))
                    await self._answer(method, target, body, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, method: str, target: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        for kind, status in self.refusals.items():
            if f"{parts.path}/".startswith(f"{kind_of(kind).path}/"):
                return await self._status(writer, status, f"{kind} is refused")
        for kind, raw in self.answers.items():
            if parts.path.startswith(kind_of(kind).path):
                writer.write(raw)
                return await writer.drain()
        if method == "POST":
            return await self._status(writer, self.created, method)
        if method == "PATCH":
            return await self._apply(parts.path, json.loads(body), writer)
        if method == "GET" and (found := self._one(parts.path)) is not None:
            return await self._json(writer, found)
        if method == "GET" and "watch" in query:
            return await self._watch(parts.path, query, writer)
        if method == "GET" and parts.path in {kind_of(kind).path for kind in KINDS}:
            return await self._list(parts.path, query, writer)
        return await self._status(writer, 404, method)

    def _one(self, path: str) -> Object | None:
        """Of a kind without namespaces."""
        folder, _, name = path.rpartition("/")
        return self.objects[folder].get(("", name)) if folder in self.objects else None

    async def _status(self, writer: asyncio.StreamWriter, status: int, message: str) -> None:
        await self._json(writer, {"kind": "Status", "code": status, "message": message}, status)

    async def _json(self, writer: asyncio.StreamWriter, value: Object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        writer.write(b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n" % (status, self._date(), len(body)) + body)
        await writer.drain()

    def _date(self) -> bytes:
        return f"Date: {formatdate(time.time() + self.ahead_seconds, usegmt=True)}\r\n".encode()

    async def _apply(self, path: str, made: Object, writer: asyncio.StreamWriter) -> None:
        if made["kind"] in KINDS:
            self.put(made)
        self.applied[path] = made
        await self._json(writer, made, 200)

    async def _list(self, path: str, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        start, limit = int(query.get("continue", 0)), int(query.get("limit", 1 << 30))
        found = [each for _, each in sorted(self.objects[path].items())]
        page = found[start : start + limit]
        meta = {"resourceVersion": str(self.version)}
        if start + limit < len(found):
            meta["continue"] = str(start + limit)
        await self._json(writer, {"kind": "List", "metadata": meta, "items": page or None})

    async def _watch(self, path: str, query: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if "sendInitialEvents" in query and not self.streams:
            return await self._status(writer, 422, "sendInitialEvents is forbidden")
        writer.write(b"HTTP/1.1 200 OK\r\n%sTransfer-Encoding: chunked\r\n\r\n" % self._date())
        at = int(query.get("resourceVersion", self.version))
        if "sendInitialEvents" in query:
            for each in self.objects[path].values():
                self._chunk(writer, {"type": "ADDED", "object": each})
            ends = {"resourceVersion": str(at), "annotations": {"k8s.io/initial-events-end": "true"}}
            self._chunk(writer, {"type": "BOOKMARK", "object": {"metadata": ends}})
        await self._happenings(path, at, writer)
        return None

    async def _happenings(self, path: str, at: int, writer: asyncio.StreamWriter) -> None:
        told = len([event for event in self.events[path] if event[0] <= at])
        while not writer.is_closing():
            if at < self.oldest:
                gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
                self._chunk(writer, {"type": "ERROR", "object": gone})
                writer.write(b"0\r\n\r\n")
                return
            for version, line in self.events[path][told:]:
                at = max(at, version)
                writer.write(b"%x\r\n%s\r\n" % (len(line), line))
            told = len(self.events[path])
            await writer.drain()
            async with self._news:
                await self._news.wait()

    def _chunk(self, writer: asyncio.StreamWriter, value: Object) -> None:
        line = json.dumps(value).encode() + b"\n"
        writer.write(b"%x\r\n%s\r\n" % (len(line), line))


async def met(condition: Callable[[], object], what: str) -> None:
    """`eventually`, where the other side lives in the same loop."""
    try:
        async with asyncio.timeout(MET_SECONDS):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise TimeoutError(f"waited {MET_SECONDS} s for {what}") from None


class ServedApi:
    """FakeApi in a thread, for tests that do not run in a loop."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api")

    def __enter__(self) -> ServedApi:
        self._thread.start()
        self.run(self.api.start)
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.api.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, errand: Callable[..., Any], *arguments: Any) -> Any:
        """A method of `api`, in its loop."""

        async def body() -> Any:
            result = errand(*arguments)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(body(), self._loop).result(MET_SECONDS)


class ApiManifests(Manifests):
    """The same objects, on a server; `--source` names it."""

    def __init__(self, served: ServedApi, lab: Lab) -> None:
        self.directory, self.lab, self.served = Path("kubernetes"), lab, served
        self._vips = {}

    def write(self, name: str, *objects: dict[str, Any]) -> Manifests:
        for each in objects:
            self.served.run(self.served.api.put, each)
        return self

    def kubeconfig(self) -> Path:
        """For `seine agent`, which reads it at each start."""
        path = self.lab.directory / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.served.api.port}"}}
        user = {"name": "u", "user": {"token": "secret"}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "x"}
        path.write_text(json.dumps(config | {"clusters": [cluster], "users": [user], "contexts": [context]}))
        return path
