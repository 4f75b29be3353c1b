"""What a node and a remote authority say to each other: JSON in HTTP/1.1 over TLS, one exchange per connection.

    POST /v1/trust  Ask {node, record}                  -> Answer {now, trust}
    POST /v1/sign   Ask {node, name, request: base64}   -> Answer {now, chain: [base64 DER, leaf first]}

With `Authorization: Bearer TOKEN`, the node's. `now` is the authority's clock, seconds since 1970. A refusal has a
status of 4xx or 5xx and {error: a sentence}. TLS proves the authority to the node, the token the node to the authority.
Every size and every wait is bounded on both sides.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from mesh.identity.authority import Record, Trust
from mesh.model import Value

TRUST, SIGN = "/v1/trust", "/v1/sign"
HEAD_BYTES_MAX = 16 << 10  # a Kubernetes token has 1 to 2 KiB
BODY_BYTES_MAX = 1 << 20  # a record that names 10 000 other nodes, or trust with as many denials, has 600 KiB
EXCHANGE_SECONDS_MAX = 10.0  # all of it, from the first byte of TLS
LEAF_SECONDS_MAX = 8 * 86400.0  # no certificate lives longer than 7 days; who says so would hold up rotations for ever

T = TypeVar("T")


class Ask(Value, frozen=True):
    node: str
    record: Record | None = None
    name: str = ""  # SPIFFE id
    request: bytes = b""  # PKCS #10, DER


class Answer(Value, frozen=True):
    now: float
    trust: Trust | None = None
    chain: tuple[bytes, ...] = ()


class Error(Value, frozen=True):
    error: str


class BadMessage(ValueError):
    """A sentence: what is wrong with what the other side sent."""


def head(first: str, body: bytes, *fields: str) -> bytes:
    """A first line, a body and further fields as bytes to send."""
    lines = (first, *fields, "Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")
    return "\r\n".join((*lines, "", "")).encode("ascii")


async def read(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """First line, fields by lower-case name, body. The reader's limit bounds the head. Raises BadMessage."""
    try:
        text = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("ascii")
    except asyncio.LimitOverrunError:
        raise BadMessage(f"the head has more than {HEAD_BYTES_MAX} bytes") from None
    except asyncio.IncompleteReadError:
        raise BadMessage("the connection ended within the head") from None
    except UnicodeDecodeError:
        raise BadMessage("the head is not ASCII") from None
    first, *lines = text.split("\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = fields.get("content-length", "")
    if not (length.isdigit() and len(length) <= 9) or "transfer-encoding" in fields:
        raise BadMessage("the body has no Content-Length")
    if int(length) > BODY_BYTES_MAX:
        raise BadMessage(f"the body has more than {BODY_BYTES_MAX} bytes")
    try:
        return first, fields, await reader.readexactly(int(length))
    except asyncio.IncompleteReadError:
        raise BadMessage("the connection ended within the body") from None


def decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadMessage(f"the body is no {kind.__name__}: {error}") from None
