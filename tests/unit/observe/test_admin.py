from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mesh.model import Authorization
from mesh.observe.admin import private, public
from mesh.observe.observer import Look, Observer
from mesh.observe.server import Handler, Request, Response
from mesh.observe.status import Draining, PodAuthorization, decode
from tests.unit.observe.values import document, names, series


class Node:
    reason = ""

    def ready(self) -> str:
        return self.reason

    async def dump(self) -> object:
        return {"pods": {1: "client-0"}, "set": [*"ab"]}

    def authorize(self, namespace: str, pod: str) -> PodAuthorization | None:
        if (namespace, pod) != ("shop", "web-1"):
            return None
        said = Authorization(default_deny=True)
        return PodAuthorization(namespace=namespace, name=pod, identity="", trust_domain="a", authorization=said)

    async def drain(self, namespace: str, pod: str, begin: bool) -> Draining | None:
        if pod == "hidden":
            raise OSError(1, "not permitted")
        return (
            Draining(total=2, handled=2 - begin, finished=not begin) if (namespace, pod) == ("shop", "web-1") else None
        )


@asynccontextmanager
async def routes() -> AsyncIterator[tuple[Node, dict[tuple[str, str], Handler]]]:
    observer = Observer(lambda: Look(document=document(), names=names()), lambda: {0: [series()]})
    node = Node()
    yield node, dict(private(observer, node.ready, node.dump, node.authorize, node.drain))
    observer.close()


def ask(method: str, path: str, reason: str = "", headers: dict[str, str] | None = None, **query: str) -> Response:
    async def run() -> Response:
        async with routes() as (node, found):
            node.reason = reason
            asked = {key: [value] for key, value in query.items()}
            return await found[(method, path)](Request(method, path, asked, headers or {}))

    return asyncio.run(run())


def test_metrics() -> None:
    response = ask("GET", "/metrics", headers={"accept": "text/plain;version=0.0.4"}, **{"name[]": "seine_worker_up"})
    assert response.body.decode().splitlines()[2:] == [
        'seine_worker_up{worker="0"} 1.0',
        'seine_worker_up{worker="1"} 0.0',
    ]
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_metrics_compressed() -> None:
    response = ask("GET", "/metrics", headers={"accept-encoding": "gzip"})
    assert ("Content-Encoding", "gzip") in response.headers
    assert b"istio_requests_total{" in gzip.decompress(response.body)


def test_ready_and_why_not() -> None:
    assert (ask("GET", "/ready").status, ask("GET", "/ready").body) == (200, b"ready\n")
    waiting = ask("GET", "/ready", reason="no worker is connected")
    assert (waiting.status, waiting.body) == (503, b"no worker is connected\n")


def test_status_is_the_document_with_its_services() -> None:
    found = decode(ask("GET", "/status").body)
    assert (found.node, [s.name for s in found.services]) == ("n1", ["db", "web"])


def test_dump() -> None:
    assert json.loads(ask("GET", "/dump").body) == {"pods": {"1": "client-0"}, "set": ["a", "b"]}


def test_who_may_call_a_pod() -> None:
    found = json.loads(ask("GET", "/authz", namespace="shop", pod="web-1").body)
    assert (found["name"], found["authorization"]["default_deny"]) == ("web-1", True)
    missing = ask("GET", "/authz", pod="web-9")
    assert (missing.status, missing.body) == (404, b"there is no pod default/web-9 in the mesh on this node\n")


def test_a_drain_is_begun_and_looked_at_and_both_are_answered_at_once() -> None:
    begun = ask("POST", "/drain", namespace="shop", pod="web-1")
    assert (begun.status, json.loads(begun.body)["handled"]) == (202, 1)
    over = ask("GET", "/drain", namespace="shop", pod="web-1")
    assert (over.status, json.loads(over.body)["finished"]) == (200, True)


def test_a_drain_that_cannot_be_is_answered_by_a_sentence() -> None:
    missing = ask("POST", "/drain", pod="web-9")
    assert (missing.status, missing.body) == (404, b"default/web-9: there is no such pod in the mesh on this node\n")
    assert ask("GET", "/drain", pod="web-9").body == b"default/web-9: nothing was drained there\n"
    blind = ask("POST", "/drain", pod="hidden")
    assert (blind.status, blind.body) == (500, b"the connections of default/hidden cannot be listed: not permitted\n")


def test_nothing_on_the_tcp_port_changes_anything() -> None:
    async def run() -> set[str]:
        observer = Observer(lambda: Look(document=document(), names=names()), dict)
        observer.close()
        return {method for method, _ in public(observer, Node().ready, Node().dump, Node().authorize)}

    assert asyncio.run(run()) == {"GET"}
