"""An authority elsewhere, asked over HTTPS with this node's token; see mesh.identity.wire.

The token is read from its file for every exchange, and the roots from where they are: both may be replaced at any time.
Where the authority's certificate is not good, whoever keeps roots is told to look for new ones. What comes back is
checked here as far as it is about trust, and by the keeper as far as it is a certificate.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from mesh.identity import certificate, rotation, wire
from mesh.identity.authority import AuthorityError, Record, Root, Trust
from mesh.identity.certificate import BadCertificate
from mesh.identity.wire import Answer, Ask, BadMessage

POLL_SECONDS = 30.0  # a thousand nodes ask 33 times a second
TOKEN_BYTES_MAX = 8 << 10


class Roots(Protocol):
    """Certificates that the authority's own hangs from."""

    async def read(self) -> str:
        """As PEM. AuthorityError of the reason "files" when there are none."""

    def forget(self) -> None:
        """They did not help: what may be old is asked for again."""


class RootsFile:
    """Read again each time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> str:
        try:
            return self._path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise AuthorityError(f"{self._path}: no roots can be read: {error}", "files") from None

    def forget(self) -> None:
        """Nothing is kept."""


class Remote:
    def __init__(self, url: str, node: str, token: Path, roots: Roots, clock: Callable[[], float]) -> None:
        """`url`: https://HOST[:PORT]."""
        parts = urlsplit(url)
        self._url, self._host, self._port = url, parts.hostname or "", parts.port or 443
        self._node, self._token, self._roots, self._clock = node, token, roots, clock
        self.skew_seconds = 0.0

    @property
    def kind(self) -> str:
        return self._url

    @property
    def poll_seconds(self) -> float:
        return POLL_SECONDS

    async def trust(self, record: Record) -> Trust:
        answer = await self._ask(wire.TRUST, Ask(node=self._node, record=record))
        if answer.trust is None:
            raise self._useless("it answered without saying whom to believe")
        try:
            return _checked(answer.trust)
        except BadCertificate as error:
            raise self._useless(str(error)) from None

    async def sign(self, request: bytes, name: str) -> tuple[bytes, ...]:
        return (await self._ask(wire.SIGN, Ask(node=self._node, name=name, request=request))).chain

    def _useless(self, why: str) -> AuthorityError:
        return AuthorityError(f"{self._url}: {why}", "useless")

    async def _ask(self, path: str, ask: Ask) -> Answer:
        body = msgspec.json.encode(ask)
        fields = (f"Host: {self._host}:{self._port}", f"Authorization: Bearer {self._read_token()}")
        asked = self._clock()
        try:
            async with asyncio.timeout(wire.EXCHANGE_SECONDS_MAX):
                first, body = await self._exchange(wire.head(f"POST {path} HTTP/1.1", body, *fields) + body)
        except TimeoutError:
            raise AuthorityError(f"{self._url}: no answer in {wire.EXCHANGE_SECONDS_MAX:g} s", "unreachable") from None
        except ssl.SSLCertVerificationError as error:
            self._roots.forget()
            raise AuthorityError(f"{self._url}: its certificate is not good: {error.verify_message}", "tls") from None
        except ssl.SSLError as error:
            raise AuthorityError(f"{self._url}: {error.reason or error}", "tls") from None
        except OSError as error:
            raise AuthorityError(f"{self._url}: {error.strerror or error}", "unreachable") from None
        except BadMessage as error:
            raise self._useless(str(error)) from None
        answer = self._read(first, body)
        self.skew_seconds = answer.now - (asked + self._clock()) / 2
        return answer

    async def _exchange(self, message: bytes) -> tuple[str, bytes]:
        context = await self._context()
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=context, limit=wire.HEAD_BYTES_MAX)
        try:
            writer.write(message)
            await writer.drain()
            first, _, body = await wire.read(reader)
            return first, body
        finally:
            writer.transport.abort()  # nothing is left to be said, and a peer that is stuck must not hold us up

    async def _context(self) -> ssl.SSLContext:
        text = await self._roots.read()
        try:
            context = ssl.create_default_context(cadata=text or "none")  # without any it would take the system's
        except (ValueError, ssl.SSLError) as error:
            self._roots.forget()
            raise AuthorityError(f"{self._url}: no roots can be read for it: {error}", "files") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    def _read_token(self) -> str:
        try:
            with self._token.open("rb") as file:
                token = file.read(TOKEN_BYTES_MAX + 1).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AuthorityError(f"{self._token}: no token can be read: {error}", "files") from None
        if not token or len(token) > TOKEN_BYTES_MAX or any(not 32 < ord(sign) < 127 for sign in token):
            raise AuthorityError(f"{self._token} does not hold one token", "files")
        return token

    def _read(self, first: str, body: bytes) -> Answer:
        version, _, rest = first.partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/1.") or not status.isdigit():
            raise self._useless("it does not speak HTTP")
        try:
            if status == "200":
                return wire.decode(body, Answer)
            sentence = wire.decode(body, wire.Error).error[:300]
        except BadMessage as error:
            raise self._useless(f"status {status}, and {error}") from None
        raise AuthorityError(f"{self._url}: {sentence}", "refused" if status.startswith("4") else "unavailable")


def _checked(trust: Trust) -> Trust:
    """With what can be told from the certificates told from them."""
    roots = []
    for root in trust.roots:
        facts = certificate.read_root(root.certificate)
        if facts.root != root.id:
            raise BadCertificate(f"the root that it calls {root.id[:40]} is {facts.root}")
        roots.append(
            Root(
                id=root.id,
                certificate=root.certificate,
                state=root.state,
                not_after=facts.not_after,
                since=root.since,
            )
        )
    if why := rotation.problem(roots):
        raise BadCertificate(why)
    return msgspec.structs.replace(trust, roots=tuple(roots))
