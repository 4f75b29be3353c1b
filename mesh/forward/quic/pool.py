"""Tunnels to other nodes: one connection per {source, target, node}, as HBONE's pool has it, more when one is full.

A pair of identities never shares a connection with another one: what TLS has proven is exactly who calls and who
answers. A connection that is asked for waits for a handshake only where QUIC is believed to work (see `fallback`);
otherwise the answer is "by HBONE", at once, and never anything less than that.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from msgspec.structs import replace

from mesh.forward.quic import fallback
from mesh.forward.quic.address import parse_address
from mesh.forward.quic.connect import request_fields
from mesh.forward.quic.connection import Limits
from mesh.forward.quic.credentials import NodeCredentials
from mesh.forward.quic.endpoint import Endpoint
from mesh.forward.quic.handshake import Reason, Refused
from mesh.forward.quic.http3 import Fields
from mesh.forward.quic.local import Pairs
from mesh.forward.quic.messages import NodeWay, Opening, Status
from mesh.forward.quic.name import SALT_BYTES
from mesh.forward.quic.tunnel import Tunnel
from mesh.forward.quic.wire import Address

HANDSHAKE_SECONDS = 0.75  # three losses in a row at 20 ms; then it goes by HBONE, or is tried with small datagrams
DATAGRAM_BYTES_MIN = 1200  # what every way of QUIC must pass (RFC 9000 14.1)
TUNNELS_MAX = 16  # per key: 1600 connections between two service accounts on two nodes
WAITING_MAX = 1600  # for a handshake, per key
QUIET_SECONDS = 300.0  # without a stream, as ztunnel
PING_SECONDS = 5.0  # of silence: a third of the idle timeout
FORGET_SECONDS = 2 * fallback.PAUSE_SECONDS_MAX  # what nobody has asked for since is not remembered: the node is gone
NODES_MAX, LINES_MAX = 4096, 16384  # then those that nobody has asked for longest are forgotten, if nothing stands

Done = Callable[[int, str, socket.socket | None], None]  # status, reason, the worker's end


@dataclass(slots=True, eq=False)
class _Ask:
    """A connection that a worker has asked for."""

    opening: Opening
    done: Done
    over: bool = False
    cancel: Callable[[], None] | None = None  # once it was sent


@dataclass(slots=True, eq=False)
class _Line:
    """All tunnels of one key."""

    source: str
    target: str
    node: str
    address: Address
    tunnels: list[Tunnel] = field(default_factory=list)
    waiting: list[_Ask] = field(default_factory=list)
    trying: Tunnel | None = None  # its handshake is under way
    deadline: asyncio.TimerHandle | None = None
    memory: fallback.Memory = field(default_factory=fallback.Memory)  # of refusals; silence is the node's
    used: float = 0.0  # when it was last asked for

    @property
    def is_empty(self) -> bool:
        return not self.tunnels and not self.waiting and self.trying is None


@dataclass(slots=True)
class _Node:
    memory: fallback.Memory = field(default_factory=fallback.Memory)
    is_small: bool = False  # only small datagrams reach it
    used: float = 0.0


class Pool:
    """`resolve`: IP and port as the socket has them."""

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: NodeCredentials,
        pairs: Pairs,
        counts: Counter[str],
        limits: Limits,
        resolve: Callable[[str, int], Address],
    ) -> None:
        self._endpoint, self._credentials, self._pairs, self._counts = endpoint, credentials, pairs, counts
        self._limits, self._resolve = limits, resolve
        self._loop = asyncio.get_running_loop()
        self._lines: dict[tuple[str, str, str], _Line] = {}
        self._by_tunnel: dict[Tunnel, _Line] = {}
        self._nodes: dict[str, _Node] = {}
        self.draining = False

    # --- what is asked

    def open(self, opening: Opening, done: Done) -> Callable[[], None]:
        """`done` is called once, now or later; what is answered gives up waiting."""
        ask = _Ask(opening, done)
        now = monotonic()
        line = self._line(opening, now)
        if line is None or self.draining:
            self._by_hbone(ask, "draining" if self.draining else "node", "it cannot go by QUIC from here")
            return lambda: None
        node = self._nodes[line.node]
        ways = {fallback.way(node.memory, now), fallback.way(line.memory, now)}
        if ways == {fallback.Way.QUIC}:
            self._carry(line, ask)
        else:
            if fallback.Way.HBONE not in ways and line.trying is None:
                self._try(line, in_background=True)
            self._by_hbone(ask, "remembered", node.memory.reason or line.memory.reason)
        return lambda: self._give_up(line, ask)

    def _line(self, opening: Opening, now: float) -> _Line | None:
        key = opening.source, opening.target, opening.node
        line = self._lines.get(key)
        if line is None and (parsed := parse_address(opening.node)) is not None:
            if len(self._lines) >= LINES_MAX or len(self._nodes) >= NODES_MAX:
                self._forget_oldest()
            line = self._lines[key] = _Line(*key, self._resolve(*parsed))
            self._nodes.setdefault(opening.node, _Node())
        if line is not None:
            line.used = self._nodes[line.node].used = now
        return line

    def _carry(self, line: _Line, ask: _Ask) -> None:
        for tunnel in line.tunnels:
            if tunnel.room:
                self._request(tunnel, ask)
                return
        if len(line.waiting) >= WAITING_MAX or (line.trying is None and len(line.tunnels) >= TUNNELS_MAX):
            self._by_hbone(ask, "full", "too many connections between these two")
            return
        line.waiting.append(ask)
        if line.trying is None:
            self._try(line, in_background=False)

    def _request(self, tunnel: Tunnel, ask: _Ask) -> None:
        self._counts["streams/client"] += 1
        stream = -1

        def answered(status: int) -> None:
            if ask.over:
                return
            ask.over = True
            if status == Status.CARRIED:
                self._attach(tunnel, stream, ask)
            elif status:
                self._counts["refused/answer"] += 1
                ask.done(status, f"the other node answered {status}", None)
            else:  # nothing of the application has left: another way may do better
                self._by_hbone(ask, "lost", "the connection ended before the other node answered")

        stream = tunnel.request(request_fields(ask.opening), answered)
        ask.cancel = lambda: tunnel.give_up(stream)

    def _attach(self, tunnel: Tunnel, stream: int, ask: _Ask) -> None:
        try:
            ours, given = self._pairs.make()
        except OSError as error:
            self._counts["refused/pair"] += 1
            tunnel.abort(stream)
            ask.done(Status.UNREACHABLE, f"no local connection could be made: {error}", None)
            return
        tunnel.attach(stream, ours)
        ask.done(Status.CARRIED, "", given)

    def _by_hbone(self, ask: _Ask, why: str, reason: str) -> None:
        ask.over = True
        self._counts[f"fallbacks/{why}"] += 1
        ask.done(Status.BY_HBONE, reason, None)

    def _give_up(self, line: _Line, ask: _Ask) -> None:
        if not ask.over:
            ask.over = True
            if ask in line.waiting:
                line.waiting.remove(ask)
            if ask.cancel is not None:
                ask.cancel()

    # --- handshakes

    def _try(self, line: _Line, in_background: bool) -> None:
        """One attempt: with the datagrams that we would like, then with the smallest."""
        if in_background:
            node = self._nodes[line.node]
            node.memory = fallback.tried(node.memory)
            line.memory = fallback.tried(line.memory)
        size = DATAGRAM_BYTES_MIN if self._nodes[line.node].is_small else self._limits.datagram_bytes
        self._connect(line, size)

    def _connect(self, line: _Line, size: int) -> None:
        try:
            name = self._credentials.name_for(line.source, line.target, os.urandom(SALT_BYTES))
        except Refused as refusal:
            self._failed(line, str(refusal), refusal.reason)
            return
        limits = replace(self._limits, datagram_bytes=size)
        own = self._credentials.own[line.source]
        line.trying = self._endpoint.connect(line.address, own, line.target, name, self, limits)
        self._by_tunnel[line.trying] = line
        line.deadline = self._loop.call_later(HANDSHAKE_SECONDS, self._late, line)

    def _late(self, line: _Line) -> None:
        assert line.trying is not None
        size = line.trying.connection.limits.datagram_bytes
        self._drop_attempt(line).close()
        if size > DATAGRAM_BYTES_MIN:
            self._counts["handshakes_failed/size"] += 1
            self._connect(line, DATAGRAM_BYTES_MIN)
        else:
            self._counts[f"handshakes_failed/{Reason.SILENCE}"] += 1
            self._failed(line, f"{line.node} did not answer over UDP", Reason.SILENCE)

    def _drop_attempt(self, line: _Line) -> Tunnel:
        tunnel, line.trying = line.trying, None
        if line.deadline is not None:
            line.deadline.cancel()
            line.deadline = None
        assert tunnel is not None
        self._by_tunnel.pop(tunnel, None)
        return tunnel

    def _failed(self, line: _Line, sentence: str, reason: Reason) -> None:
        now, chance, node = monotonic(), random.random(), self._nodes[line.node]
        if reason is Reason.SILENCE:
            node.memory = fallback.failed(node.memory, now, chance, sentence)
        else:
            line.memory = fallback.failed(line.memory, now, chance, sentence)
            if node.memory.trying:
                node.memory = fallback.succeeded(node.memory)  # UDP at least passes
        waiting, line.waiting = line.waiting, []
        for ask in waiting:
            self._by_hbone(ask, str(reason), sentence)

    # --- what tunnels tell

    def established(self, tunnel: Tunnel) -> None:
        line = self._by_tunnel[tunnel]
        self._drop_attempt(line)
        self._by_tunnel[tunnel] = line
        line.tunnels.append(tunnel)
        node = self._nodes[line.node]
        if tunnel.connection.limits.datagram_bytes < self._limits.datagram_bytes:
            node.is_small = True
        self._counts["handshakes/client"] += 1
        node.memory = fallback.succeeded(node.memory)
        line.memory = fallback.succeeded(line.memory)
        self._serve_waiting(line)

    def _serve_waiting(self, line: _Line) -> None:
        waiting, line.waiting = line.waiting, []
        for ask in waiting:
            self._carry(line, ask)

    def requested(self, tunnel: Tunnel, stream: int, fields: Fields) -> None:
        raise AssertionError("a server cannot ask")

    def left(self, tunnel: Tunnel, stream: int) -> None:
        raise AssertionError("a server cannot ask")

    def freed(self, tunnel: Tunnel) -> None:
        line = self._by_tunnel.get(tunnel)
        if line is not None and line.waiting and tunnel.room:
            self._serve_waiting(line)

    def closed(self, tunnel: Tunnel, reason: str) -> None:
        line = self._by_tunnel.pop(tunnel, None)
        self._counts[f"connections_closed/{reason}"] += 1
        if line is None:
            return  # an attempt that was given up
        if line.trying is tunnel:
            self._drop_attempt(line)
            known = _reason(reason)
            self._counts[f"handshakes_failed/{known}"] += 1
            self._failed(line, f"the handshake with {line.node} failed: {reason}", known)
            return
        line.tunnels.remove(tunnel)
        if not tunnel.connection.is_confirmed and reason != Reason.SILENCE:  # the peer did not believe us
            self._counts[f"handshakes_failed/{_reason(reason)}"] += 1
            self._failed(line, f"{line.node} refused us", _reason(reason))
        elif reason == Reason.SILENCE:
            now, node = monotonic(), self._nodes[line.node]
            node.memory = fallback.lost(node.memory, now, now - tunnel.established_at, random.random())

    # --- from time to time

    def tend(self) -> None:
        """Pings and rest: to be called each second."""
        now = monotonic()
        self._forget(now - FORGET_SECONDS)
        for line in list(self._lines.values()):
            for tunnel in list(line.tunnels):
                if not tunnel.streams and (tunnel.leaving or now - tunnel.quiet_since > QUIET_SECONDS):
                    tunnel.close()
                else:
                    tunnel.keep_alive(PING_SECONDS)

    def _forget(self, before: float) -> None:
        """What stands stays; a tunnel to a node that is gone ends by silence."""
        self._lines = {key: line for key, line in self._lines.items() if not line.is_empty or line.used > before}
        needed = {line.node for line in self._lines.values()}
        self._nodes = {name: node for name, node in self._nodes.items() if name in needed or node.used > before}

    def _forget_oldest(self) -> None:
        """The older half of those where nothing stands."""
        self._counts["forgotten/full"] += 1
        ages = sorted(line.used for line in self._lines.values() if line.is_empty)
        if ages:
            self._forget(ages[len(ages) // 2])

    def ways(self) -> tuple[NodeWay, ...]:
        now = monotonic()
        return tuple(
            NodeWay(
                node=node,
                way=str(fallback.Way.QUIC if memory.usable else fallback.Way.HBONE),
                reason=memory.reason,
                seconds=max(0.0, memory.until - now) if not memory.usable else 0.0,
            )
            for node, memory in sorted((name, each.memory) for name, each in self._nodes.items())
        )


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        return Reason.BROKEN
