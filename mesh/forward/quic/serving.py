"""What others ask of this node's pods: judged, handed to a worker, and carried when the application is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from mesh.forward.quic.address import format_address
from mesh.forward.quic.connect import BadRequest, judge
from mesh.forward.quic.http3 import Fields
from mesh.forward.quic.local import Pairs
from mesh.forward.quic.messages import Opening, Status
from mesh.forward.quic.tunnel import Tunnel


class Workers(Protocol):
    def arrive(self, opening: Opening, fd: int, answered: Callable[[int], None]) -> bool:
        """False: no worker is there. `answered` is called once, with a status."""


class Serving:
    """Owner of the tunnels that others begin. `here`: who is at which address of this node."""

    def __init__(self, workers: Workers, pairs: Pairs, counts: Counter[str]) -> None:
        self._workers, self._pairs, self._counts = workers, pairs, counts
        self.here: Mapping[str, str] = {}

    def established(self, tunnel: Tunnel) -> None:
        self._counts["handshakes/server"] += 1

    def requested(self, tunnel: Tunnel, stream: int, fields: Fields) -> None:
        connection = tunnel.connection
        try:
            opening = judge(fields, connection.peer, connection.own, _node_of(tunnel), self.here)
        except BadRequest as refusal:
            self._counts[f"requests_bad/{refusal.reason}"] += 1
            tunnel.answer(stream, refusal.status)
            return
        self._counts["streams/server"] += 1
        self._hand_over(tunnel, stream, opening)

    def _hand_over(self, tunnel: Tunnel, stream: int, opening: Opening) -> None:
        try:
            ours, given = self._pairs.make()
        except OSError:
            self._counts["refused/pair"] += 1
            tunnel.answer(stream, Status.UNREACHABLE)
            return

        def answered(status: int) -> None:
            if status == Status.CARRIED and tunnel.is_waiting(stream):
                tunnel.answer(stream, status)
                tunnel.attach(stream, ours)
            else:
                ours.close()
                tunnel.answer(stream, Status.UNREACHABLE if status == Status.CARRIED else status)

        with given:
            there = self._workers.arrive(opening, given.fileno(), answered)
        if not there:
            self._counts["refused/no_worker"] += 1
            answered(Status.UNREACHABLE)

    def left(self, tunnel: Tunnel, stream: int) -> None:
        """The worker learns it when it answers: its connection is reset then."""

    def freed(self, tunnel: Tunnel) -> None:
        """Nobody waits for it."""

    def closed(self, tunnel: Tunnel, reason: str) -> None:
        what = "connections_closed" if tunnel.established_at else "handshakes_failed"
        self._counts[f"{what}/{reason}"] += 1


def _node_of(tunnel: Tunnel) -> str:
    address = tunnel.connection.get_peer_address()
    return format_address(str(address[0]).removeprefix("::ffff:"), address[1]) if address else ""
