"""An authority behind real TLS on loopback, and what nodes need to ask it."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

from mesh.identity.authority import AuthorityError, Record
from mesh.identity.embedded import Embedded
from mesh.identity.remote import Remote, RootsFile
from mesh.identity.server import AuthorityServer
from mesh.identity.store import Store
from tests.kit.pki import Authority

DOMAIN = "cluster.local"
TOKENS = {"token-a": "node-a", "token-b": "node-b"}
FORBIDDEN = f"spiffe://{DOMAIN}/ns/shop/sa/elsewhere"


async def authorise(token: str, node: str, name: str) -> None:
    if TOKENS.get(token) != node:
        raise AuthorityError(f"this is no token of {node}", "token")
    if name == FORBIDDEN:
        raise AuthorityError(f"no pod of {node} runs as {name}", "workload")


class Distance:
    """`directory` gets the authority's state and the nodes' files."""

    def __init__(self, directory: Path, clock=time.time, monotonic=time.monotonic) -> None:
        self.directory, self.clock = directory, clock
        self.embedded = Embedded(Store(directory / "identity"), DOMAIN, 86400.0, 1.0, clock, monotonic)
        self.server = AuthorityServer(self.embedded, authorise, lambda: self.clock())
        self.pki = Authority()
        self.port = 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    async def __aenter__(self) -> Distance:
        pem = self.directory / "server.pem"
        pem.write_bytes(self.pki.issue(dns=["localhost"]).pem())
        self.context.load_cert_chain(pem)
        self.port = await self.server.listen("127.0.0.1", 0, self.context)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.close()

    def node(self, name: str = "node-a", token: str = "token-a", host: str = "localhost", port: int = 0) -> Remote:
        roots, given = self.directory / "roots.pem", self.directory / f"{name}.token"
        roots.write_bytes(self.pki.root.pem())
        given.write_text(f"{token}\n")
        return Remote(f"https://{host}:{port or self.port}", name, given, RootsFile(roots), time.time)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that may say what it likes."""
        context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(self.pki.root.der))
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")

    async def say(self, message: bytes) -> bytes:
        reader, writer = await self.connect()
        try:
            writer.write(message)
            await writer.drain()
            return await reader.read()
        finally:
            writer.transport.abort()


def record(node: str = "node-a") -> Record:
    return Record(node=node)
