"""A certificate authority for nodes elsewhere, run as a script until SIGTERM: `authority.py DIRECTORY PORT LIFE_S`.

Behind TLS on localhost. DIRECTORY gets its state, `roots.pem` for its clients and `port` once it listens; the token
that it takes is TOKEN.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
import time
from pathlib import Path

from mesh.identity.authority import AuthorityError
from mesh.identity.embedded import Embedded
from mesh.identity.server import AuthorityServer
from mesh.identity.store import Store
from tests.kit.pki import Authority

TOKEN = "a-token-of-this-node"


async def authorise(token: str, node: str, name: str) -> None:
    if token != TOKEN:
        raise AuthorityError(f"this is no token of {node}", "token")


async def serve(directory: Path, port: int, life_seconds: float) -> None:
    pki = Authority()
    pem = directory / "server.pem"
    pem.write_bytes(pki.issue(dns=["localhost"]).pem())
    (directory / "roots.pem").write_bytes(ssl.DER_cert_to_PEM_cert(pki.root.der).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    pem.unlink()
    embedded = Embedded(Store(directory / "state"), "cluster.local", life_seconds, 1.0, time.time, time.monotonic)
    server = AuthorityServer(embedded, authorise, time.time)
    chosen = await server.listen("localhost", port, context)
    (directory / "port").write_text(str(chosen))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await server.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
