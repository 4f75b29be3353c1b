"""The agent's paths about identities, on its Unix socket only: two of them decide who is believed.

GET  /identity         mesh.observe.status.IdentityStatus as JSON, with certificates
GET  /identity/rotate  what the next step of a rotation would do, and whom it waits for: mesh.observe.status.Rotation
POST /identity/rotate  likewise, and a rotation begins
POST /identity/deny    ?what=ID|SERIAL&seconds=&reason= answers with mesh.observe.status.DenialStatus
POST /identity/allow   ?what= takes a denial back
What the authority refuses is answered with 409 and its sentence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Protocol

import msgspec

from mesh.observe.server import Handler, Request, Response, Routes
from mesh.observe.status import DenialStatus, IdentityStatus, Rotation

DENIED_SECONDS_MAX = 366 * 86400.0  # what should last longer is taken out of the mesh
_encode = msgspec.json.Encoder().encode


class Refused(Exception):
    """A sentence: why the authority does not do it."""


class Identities(Protocol):
    """All but `shown` raise Refused."""

    def shown(self, chains: bool = False) -> IdentityStatus: ...

    def outlook(self) -> Rotation: ...

    async def rotate(self) -> Rotation: ...

    async def deny(self, what: str, seconds: float, reason: str) -> DenialStatus: ...

    async def allow(self, what: str) -> bool:
        """Whether it was denied."""


def _answering(work: Callable[[Request], Awaitable[object]]) -> Handler:
    async def handle(request: Request) -> Response:
        try:
            return Response(_encode(await work(request)), content_type="application/json")
        except Refused as refusal:
            return Response(f"{refusal}\n".encode(), HTTPStatus.CONFLICT)

    return handle


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= DENIED_SECONDS_MAX:
        raise Refused(f"seconds is {text!r}; it must be a number above 0 and at most {DENIED_SECONDS_MAX:.0f}")
    return seconds


def routes(identities: Identities) -> Routes:
    async def show(_: Request) -> object:
        return identities.shown(chains=True)

    async def outlook(_: Request) -> object:
        return identities.outlook()

    async def rotate(_: Request) -> object:
        return await identities.rotate()

    async def deny(request: Request) -> object:
        return await identities.deny(request.one("what"), _seconds(request.one("seconds")), request.one("reason"))

    async def allow(request: Request) -> object:
        return {"was_denied": await identities.allow(request.one("what"))}

    return {
        ("GET", "/identity"): _answering(show),
        ("GET", "/identity/rotate"): _answering(outlook),
        ("POST", "/identity/rotate"): _answering(rotate),
        ("POST", "/identity/deny"): _answering(deny),
        ("POST", "/identity/allow"): _answering(allow),
    }
