"""The random world of HTTP/1 (test_http1_chaos.py) with a tunnel in its middle: clients on one node, apps on another,
while tunnels are cut, certificates renewed, roots replaced, and peers denied and allowed again."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from mesh.model import Balancer, Direction, PlanEndpoint, Protocol
from tests.engine.pair import CLIENT, HERE, SERVER, SOURCE_OF_CLIENT, Node, Pair
from tests.engine.rig import SLOT, Server
from tests.engine.test_http1_chaos import ADDRESS, LIMITS, STEPS, World

TUNNELS = {"tunnel_ping_ms": 40, "tunnel_silence_ms": 40, "tunnel_idle_ms": 30, "tunnel_handshake_ms": 60}
WATCHED = ("connections", "upstreams", "pooled", "buffers", "waiting", "parked", "tunnels")


@dataclass(kw_only=True)
class TwoNodes(World):
    pair: Pair

    def plan(self) -> None:
        some = self.chance.sample(self.servers, self.chance.randrange(len(self.servers) + 1))
        protocol = self.chance.choice([Protocol.HTTP, Protocol.DETECT])
        peers = [SERVER] * 6 + ["spiffe://cluster.local/ns/shop/sa/nobody"]
        endpoints = [self.pair.endpoint(server.port, self.chance.choice(peers)) for server in some]
        balancer = self.chance.choice(list(Balancer))
        self.rig.plan(*endpoints, address=ADDRESS, port=self.port, protocol=protocol, balancer=balancer)
        for server in self.servers:
            behind = PlanEndpoint(id=server.port, address=HERE, port=server.port, slot=SLOT)
            self.pair.destination.plan(behind, address=HERE, port=server.port, protocol=protocol)

    def step(self) -> None:
        super().step()
        self.pair.destination.events.clear()

    def rule(self) -> None:
        act = self.chance.choice([self.plan, self.plan, self.renew, self.deny, self.distrust, self.cut, self.leave])
        act()

    def node(self) -> Node:
        return self.chance.choice([self.pair.source, self.pair.destination])

    def renew(self) -> None:
        node = self.node()
        node.identify(CLIENT if node is self.pair.source else SERVER)

    def deny(self) -> None:
        self.node().trust(denied=self.chance.choice([(), (CLIENT,), (SERVER,)]))

    def distrust(self) -> None:
        """Only who comes anew is judged by the other roots."""
        self.node().trust(self.chance.choice([self.pair.authority.root, self.pair.authority.issue("nobody")]))

    def cut(self) -> None:
        self.node().trust(denied=(CLIENT, SERVER))
        self.heal()

    def calm(self) -> None:
        super().calm()
        self.heal()

    def heal(self) -> None:
        for node in (self.pair.source, self.pair.destination):
            node.trust()

    def leave(self) -> None:
        """The server's pod goes and another comes in its place."""
        node = self.pair.destination
        node.engine.remove_pod(SLOT, close_connections=self.chance.random() < 0.5)
        node.identify(SERVER)
        node.engine.add_listener(SLOT, Direction.INBOUND, self.pair.listener.dup().detach())


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens(seed: int) -> None:
    with Pair(**(LIMITS | TUNNELS)) as pair:
        pair.ready()
        pair.destination.engine.add_source("127.0.0.2", SOURCE_OF_CLIENT, CLIENT)
        servers = [Server(pair.destination, backlog=256) for _ in range(3)]
        world = TwoNodes(pair.source, random.Random(seed), servers, pair=pair)
        world.plan()
        for number in range(STEPS):
            world.step()
            if number % 50 == 0:
                world.heal()
        world.go_on_until(lambda: pair.source.count("http_requests") > 10 and pair.source.count("tunnels_dialled") > 0)
        nodes = (pair.source, pair.destination)
        for node in nodes:
            node.engine.drain()
        for peer in [peer for node in nodes for peer in node.peers]:
            peer.close()
        for server in servers:
            server.sock.close()
        pair.source.until(lambda: not any(node.count(name) for node in nodes for name in WATCHED))
        for node in nodes:
            assert sum(one.opened for one in node.series()) == sum(one.closed for one in node.series())
