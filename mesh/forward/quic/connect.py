"""HBONE's words as HTTP/3 fields: an Opening becomes a CONNECT request and is judged again on the other side; pure.

A request is refused as ztunnel refuses it: 400 for what is no CONNECT with an IP:PORT, or an address that is not the
pod that the tunnel was made to (its identity is what the server has proven); 503 for an address nobody has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from mesh.config import INBOUND_PORT, OUTBOUND_PORT, TUNNEL_PORT
from mesh.forward.quic.address import format_address, parse_address
from mesh.forward.quic.http3 import Fields
from mesh.forward.quic.messages import Opening, Status

OWN_PORTS = frozenset(
    (OUTBOUND_PORT, INBOUND_PORT, TUNNEL_PORT)
)  # of the mesh itself in each pod: nobody tunnels there
_FORWARDED = re.compile(r'for="([^"]{1,64})"', re.IGNORECASE)


class BadRequest(Exception):
    """A status, a sentence, and the reason as counters have it."""

    def __init__(self, status: Status, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.reason = status, reason


def request_fields(opening: Opening) -> Fields:
    return [
        (b":method", b"CONNECT"),
        (b":authority", opening.destination.encode()),
        (b"forwarded", f'for="{opening.client}"'.encode()),
    ]


def answer_fields(status: int) -> Fields:
    return [(b":status", str(status).encode())]


def read_status(fields: Fields) -> int:
    """0: there is none."""
    text = dict(fields).get(b":status", b"")
    return int(text) if len(text) == 3 and text.isdigit() else 0


def judge(fields: Fields, source: str, own: str, node: str, here: Mapping[str, str]) -> Opening:
    """A request that `source` has sent to us as `own`. `here`: identity by address. Raises BadRequest."""
    names = [name for name, _ in fields]
    values = dict(fields)
    pseudo = {name for name in names if name.startswith(b":")}
    if pseudo != {b":method", b":authority"} or len(names) != len(set(names)) or values[b":method"] != b"CONNECT":
        raise BadRequest(Status.BAD_REQUEST, "not_connect", "it is no CONNECT request")
    asked = parse_address(values[b":authority"].decode("latin-1"))
    if asked is None or asked[1] in OWN_PORTS:
        raise BadRequest(Status.BAD_REQUEST, "authority", "its authority is no IP:PORT of an application")
    identity = here.get(asked[0])
    if identity is None:
        raise BadRequest(Status.UNREACHABLE, "nobody", f"nobody on this node has the address {asked[0]}")
    if identity != own:
        raise BadRequest(Status.BAD_REQUEST, "not_who", f"{asked[0]} is not {own}")
    forwarded = _FORWARDED.match(values.get(b"forwarded", b"").decode("latin-1"))
    client = parse_address(forwarded[1]) if forwarded else None
    return Opening(
        source=source,
        target=own,
        destination=format_address(*asked),
        client=format_address(*client) if client else "",
        node=node,
    )
