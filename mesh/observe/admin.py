"""The agent's paths: what is answered where.

GET  /metrics   Prometheus, OpenMetrics when asked for; name[] filters; gzip
GET  /ready     200, or 503 and the reason
GET  /status    mesh.observe.status.StatusDocument as JSON
GET  /dump      everything the agent and its workers know, as JSON; for bug reports
POST /drain     Unix socket only: ?namespace=&pod= closes connections that are older than the pod's capture
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec

from mesh.observe import status
from mesh.observe.observer import Observer
from mesh.observe.server import Handler, Request, Response, Routes

_JSON = "application/json"
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Drained(msgspec.Struct):
    """How many connections of a pod were closed; -1: there is no such enrolled pod."""

    closed: int
    detail: str = ""


Ready = Callable[[], str]  # empty: ready; else a sentence why not
Dump = Callable[[], Awaitable[object]]
Drain = Callable[[str, str], Awaitable[Drained]]  # namespace, pod


def _metrics(observer: Observer) -> Handler:
    async def handle(request: Request) -> Response:
        gzip = "gzip" in request.headers.get("accept-encoding", "")
        names = request.query.get("name[]", [])
        body = await observer.metrics(request.headers.get("accept", ""), names, gzip)
        headers = (("Content-Encoding", body.encoding),) if gzip else ()
        return Response(body.content, content_type=body.content_type, headers=(*headers, ("Vary", "Accept-Encoding")))

    return handle


def _ready(ready: Ready) -> Handler:
    async def handle(_: Request) -> Response:
        reason = ready()
        status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
        return Response(f"{reason or 'ready'}\n".encode(), status)

    return handle


def _status(observer: Observer) -> Handler:
    async def handle(_: Request) -> Response:
        return Response(status.encode(await observer.status()), content_type=_JSON)

    return handle


def _dump(dump: Dump) -> Handler:
    async def handle(_: Request) -> Response:
        return Response(_encode(await dump()), content_type=_JSON)

    return handle


def _drain(drain: Drain) -> Handler:
    async def handle(request: Request) -> Response:
        drained = await drain(request.one("namespace", "default"), request.one("pod"))
        return Response(_encode(drained), HTTPStatus.NOT_FOUND if drained.closed < 0 else HTTPStatus.OK, _JSON)

    return handle


def public(observer: Observer, ready: Ready, dump: Dump) -> Routes:
    """For the TCP port: nothing that changes anything."""
    return {
        ("GET", "/metrics"): _metrics(observer),
        ("GET", "/ready"): _ready(ready),
        ("GET", "/status"): _status(observer),
        ("GET", "/dump"): _dump(dump),
    }


def private(observer: Observer, ready: Ready, dump: Dump, drain: Drain) -> Routes:
    """For the Unix socket, which only root may open."""
    return {**public(observer, ready, dump), ("POST", "/drain"): _drain(drain)}
