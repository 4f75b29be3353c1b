"""Two engines of two nodes, joined over loopback: what one carries comes out of a tunnel of the other.

The destination listens where its `tunnel_port` is, so that a connection there is what sk_lookup would
have steered to it. Handshakes are signed by a signer of each node; `sign = False` leaves them waiting.
"""

from __future__ import annotations

import select
import socket
from types import TracebackType
from typing import Any, Self

from mesh.model import Balancer, Direction, Mtls, PlanEndpoint, Protocol, spiffe_id
from tests.engine.rig import SLOT, Peer, Rig, Server
from tests.kit.pki import Authority, Certificate
from tests.kit.signing import OwnSigner

DOMAIN = "cluster.local"
CLIENT, SERVER = spiffe_id(DOMAIN, "shop", "client"), spiffe_id(DOMAIN, "shop", "web")
HERE = "127.0.0.1"
SOURCE_OF_CLIENT = 7001


class Node(Rig):
    """A rig with identities."""

    def __init__(self, authority: Authority, **config: int) -> None:
        self.keys: dict[str, Certificate] = {}
        self.authority, self.sign = authority, True
        self.signer = OwnSigner()
        self.neighbours: list[Node] = []
        super().__init__(True, -1, **config)
        self.engine.set_signer(self.signer.open().detach())

    def trust(self, *roots: Certificate, denied: tuple[str, ...] = ()) -> None:
        self.engine.set_trust(DOMAIN, [each.der for each in roots or (self.authority.root,)], denied)

    def identify(self, name: str, certificate: Certificate | None = None, mtls: Mtls = Mtls.PERMISSIVE) -> None:
        """This node's pod is that, and has this certificate."""
        self.keys[name] = certificate or self.authority.issue(name)
        self.signer.know(self.keys[name])
        self.engine.set_identity(name, self.keys[name].chain)
        self.engine.add_pod(SLOT, 77, identity=name, mtls=mtls, baggage="k8s.namespace.name=shop,service.name=x")

    def step(self) -> bool:
        """Either node may have something to do."""
        return self._act(0.005)

    def settle(self) -> None:
        while self._act(0):
            pass

    def _act(self, seconds: float) -> bool:
        nodes = (self, *self.neighbours)
        acts = {node.engine.fd: node.pump for node in nodes} | {
            node.signer.fd: node.signer.run for node in nodes if node.sign
        }
        ready, _, _ = select.select(list(acts), [], [], seconds)
        for fd in ready:
            acts[fd]()
        return bool(ready)

    def close(self) -> None:
        super().close()
        self.signer.close()


class Pair:
    def __init__(self, **config: int) -> None:
        self.authority = Authority()
        self.listener = socket.create_server((HERE, 0), backlog=256)  # first: its port must be nobody else's meanwhile
        self.listener.setblocking(False)
        self.tunnel_port: int = self.listener.getsockname()[1]
        self.source = Node(self.authority, tunnel_port=self.tunnel_port, **config)
        self.destination = Node(self.authority, tunnel_port=self.tunnel_port, **config)
        self.source.neighbours, self.destination.neighbours = [self.destination], [self.source]

    def ready(self, **server: Any) -> Self:
        """Both trust the same root; the client's pod is CLIENT, the server's is SERVER."""
        for node in (self.source, self.destination):
            node.trust()
        self.source.identify(CLIENT)
        self.destination.identify(SERVER, **server)
        self.destination.engine.add_listener(SLOT, Direction.INBOUND, self.listener.dup().detach())
        self.destination.engine.add_source(HERE, SOURCE_OF_CLIENT, CLIENT)
        return self

    def serve(self, protocol: Protocol = Protocol.OPAQUE, balancer: Balancer = Balancer.EWMA) -> Server:
        """An app on the other node; both nodes know its address."""
        server = Server(self.destination, backlog=256)
        self.destination.plan(
            PlanEndpoint(id=server.port, address=HERE, port=server.port, slot=SLOT),
            address=HERE,
            port=server.port,
            protocol=protocol,
        )
        self.source.plan(self.endpoint(server.port), protocol=protocol, balancer=balancer)
        return server

    def endpoint(self, port: int, peer: str = SERVER) -> PlanEndpoint:
        return PlanEndpoint(id=port, address=HERE, port=port, peer=peer)

    def talk(self, protocol: Protocol = Protocol.OPAQUE) -> tuple[Peer, Peer]:
        """A client's connection and the app's end of it."""
        server = self.serve(protocol)
        client = self.source.client()
        return client, server.accept()

    def close(self) -> None:
        self.source.close()
        self.destination.close()
        self.listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
