"""Two QUIC connections that talk in memory, by a clock that the test moves; datagrams can be lost or looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from aioquic.quic import events as told

from mesh.forward.quic.connection import LIMITS, Connection, Limits, configuration
from mesh.forward.quic.credentials import NodeCredentials
from mesh.forward.quic.handshake import Own
from mesh.forward.quic.name import SALT_BYTES
from mesh.identity.peer import Unproven, is_denied, prove
from tests.kit.pki import Authority, Certificate

DOMAIN = "cluster.local"
A, B = (f"spiffe://{DOMAIN}/ns/default/sa/{name}" for name in "ab")
CLIENT, SERVER = ("192.0.2.1", 40000), ("192.0.2.2", 15008)


class Party:
    """A node's credentials, and the keys that its agent would hold."""

    def __init__(self, authority: Authority, *names: str, certificate: Certificate | None = None) -> None:
        self.keys = {name: certificate or authority.issue(name) for name in names}
        self.credentials = NodeCredentials(prove, is_denied, Unproven, time.time)
        self.credentials.trust(DOMAIN, [authority.root.der], [])
        self.credentials.know(Own(name=name, chain=each.chain) for name, each in self.keys.items())

    def sign(self, connection: Connection) -> None:
        if content := connection.signature_wanted():
            connection.signed(self.keys[connection.own].sign(content))


class Pair:
    def __init__(
        self,
        here: Party | None = None,
        there: Party | None = None,
        limits: Limits = LIMITS,
        expected: str = B,
        server_name: str | None = None,
    ) -> None:
        authority = Authority()
        self.here, self.there = here or Party(authority, A), there or Party(authority, B)
        self.now = 1000.0
        self.lose: Callable[[bytes], bool] = lambda data: False
        self.seen: list[bytes] = []  # of both directions
        own = self.here.credentials.own[A]
        name = server_name or self.here.credentials.name_for(A, expected, os.urandom(SALT_BYTES))
        self.client = Connection(
            configuration(True, limits, name),
            self.here.credentials,
            b"c" * 32,
            self.now,
            limits=limits,
            own=own,
            expected=expected,
        )
        self.client.connect(SERVER, self.now)
        self.server = Connection(
            configuration(False, limits),
            self.there.credentials,
            b"s" * 32,
            self.now,
            limits=limits,
            original_destination=self.client.original_destination_connection_id,
        )

    def turn(self) -> int:
        """Everything that both want to say now arrives; signatures are made; the number of datagrams."""
        passed = self._pass(self.client, self.server, CLIENT) + self._pass(self.server, self.client, SERVER)
        self.there.sign(self.server)
        self.here.sign(self.client)
        return passed

    def _pass(self, sender: Connection, receiver: Connection, address: tuple[str, int]) -> int:
        if sender is self.server and not sender._network_paths:
            return 0
        datagrams = [data for data, _ in sender.datagrams_to_send(self.now)]
        self.seen += datagrams
        for data in datagrams:
            if not self.lose(data):
                receiver.receive_datagram(data, address, self.now)
        return len(datagrams)

    def run(self, seconds: float = 0.1, step: float = 0.005) -> None:
        """So long, turn by turn; timers ring."""
        end = self.now + seconds
        while self.now < end:
            self.turn()
            self.now += step
            for connection in (self.client, self.server):
                at = connection.get_timer() if connection._network_paths else None
                if at is not None and at <= self.now:
                    connection.handle_timer(self.now)

    def connect(self) -> None:
        self.run()
        assert self.client.is_connected
        assert self.server.is_connected
        self.events(self.client)
        self.events(self.server)

    @staticmethod
    def events(connection: Connection) -> Sequence[told.QuicEvent]:
        found = []
        while (event := connection.next_event()) is not None:
            found.append(event)
        return found

    def received(self, connection: Connection) -> dict[int, bytes]:
        """What came on each stream since the last look."""
        found: dict[int, bytes] = {}
        for event in self.events(connection):
            if isinstance(event, told.StreamDataReceived):
                found[event.stream_id] = found.get(event.stream_id, b"") + event.data
        return found

    def ended(self, connection: Connection) -> told.ConnectionTerminated | None:
        """Why, if it is over."""
        return connection.ending
