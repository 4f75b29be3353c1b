"""The agent's paths: what is answered where.

GET  /metrics   Prometheus, OpenMetrics when asked for; name[] filters; gzip
GET  /healthz   200 as long as the agent's loop turns: what a liveness probe asks
GET  /readyz    200, or 503 and the reason; /ready likewise, the name that users of other meshes know
GET  /status    mesh.observe.status.StatusDocument as JSON
GET  /authz     ?namespace=&pod=: who may call a pod, mesh.observe.status.PodAuthorization as JSON
GET  /dump      everything the agent and its workers know, as JSON; for bug reports
POST /drain     Unix socket only: ?namespace=&pod= begins to close connections that are older than the pod's capture
GET  /drain     likewise: how far that is; both answer at once with mesh.observe.status.Draining as JSON
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

import msgspec

from mesh.observe import status
from mesh.observe.observer import Observer
from mesh.observe.server import Handler, Request, Response, Routes
from mesh.observe.status import Draining

_JSON = "application/json"
_encode = msgspec.json.Encoder(enc_hook=str).encode


Ready = Callable[[], str]  # empty: ready; else a sentence why not
Dump = Callable[[], Awaitable[object]]
Authorize = Callable[[str, str], status.PodAuthorization | None]  # namespace, pod; None: there is no such pod
Drain = Callable[[str, str, bool], Awaitable[Draining | None]]  # namespace, pod, whether to begin; None: nothing there


def _metrics(observer: Observer) -> Handler:
    async def handle(request: Request) -> Response:
        gzip = "gzip" in request.headers.get("accept-encoding", "")
        names = request.query.get("name[]", [])
        body = await observer.metrics(request.headers.get("accept", ""), names, gzip)
        headers = (("Content-Encoding", body.encoding),) if gzip else ()
        return Response(body.content, content_type=body.content_type, headers=(*headers, ("Vary", "Accept-Encoding")))

    return handle


async def _healthy(_: Request) -> Response:
    return Response(b"ok\n")


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


def _authz(authorize: Authorize) -> Handler:
    async def handle(request: Request) -> Response:
        namespace, pod = request.one("namespace", "default"), request.one("pod")
        found = authorize(namespace, pod)
        if found is None:
            sentence = f"there is no pod {namespace}/{pod} in the mesh on this node\n"
            return Response(sentence.encode(), HTTPStatus.NOT_FOUND)
        return Response(_encode(found), content_type=_JSON)

    return handle


def _drain(drain: Drain, begin: bool) -> Handler:
    async def handle(request: Request) -> Response:
        namespace, pod = request.one("namespace", "default"), request.one("pod")
        try:
            found = await drain(namespace, pod, begin)
        except OSError as error:
            sentence = f"the connections of {namespace}/{pod} cannot be listed: {error.strerror or error}\n"
            return Response(sentence.encode(), HTTPStatus.INTERNAL_SERVER_ERROR)
        if found is None:
            missing = "there is no such pod in the mesh on this node" if begin else "nothing was drained there"
            return Response(f"{namespace}/{pod}: {missing}\n".encode(), HTTPStatus.NOT_FOUND)
        return Response(_encode(found), HTTPStatus.OK if found.finished else HTTPStatus.ACCEPTED, _JSON)

    return handle


def public(observer: Observer, ready: Ready, dump: Dump, authorize: Authorize) -> Routes:
    """For the TCP port: nothing that changes anything."""
    return {
        ("GET", "/metrics"): _metrics(observer),
        ("GET", "/healthz"): _healthy,
        ("GET", "/readyz"): _ready(ready),
        ("GET", "/ready"): _ready(ready),
        ("GET", "/status"): _status(observer),
        ("GET", "/dump"): _dump(dump),
        ("GET", "/authz"): _authz(authorize),
    }


def private(observer: Observer, ready: Ready, dump: Dump, authorize: Authorize, drain: Drain) -> Routes:
    """For the Unix socket, which only root may open."""
    return {
        **public(observer, ready, dump, authorize),
        ("POST", "/drain"): _drain(drain, begin=True),
        ("GET", "/drain"): _drain(drain, begin=False),
    }
