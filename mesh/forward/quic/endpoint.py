"""The node's UDP port: whose connection a datagram is, who may begin one, and when each one's turn is to send.

One socket for both roles, so that a pair of nodes needs one hole in a firewall. A connection is found by the connection
id that we gave it; a stateless reset by the token that the peer gave us (RFC 9000 10.3.1). What came in one turn of the
loop is handled first, and each connection that has something to say then sends once.
What a peer's bytes can break in aioquic ends that peer's connection and no other.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from aioquic._buffer import Buffer
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler

from mesh.forward.quic.connection import CID_BYTES, Connection, Limits, configuration, reset_token
from mesh.forward.quic.datagrams import glance, reset_datagram
from mesh.forward.quic.floods import Allowance, Floods
from mesh.forward.quic.gate import Entry, GateLimits, admit
from mesh.forward.quic.handshake import Credentials, Own
from mesh.forward.quic.tunnel import Owner, Tunnel
from mesh.forward.quic.wire import Address, Wire

log = logging.getLogger("seine.quic")
HANDSHAKE_SECONDS = 5.0  # a client that is not proven by then goes
TIMER_SECONDS = 0.001  # uvloop counts milliseconds, and rounds less to "now"
INITIAL_BYTES_MIN = 1200  # RFC 9000 14.1
# Answers to strangers, all of them together: the port must not be of use against anybody else.
STRANGERS = {
    "reset": Allowance(100, 50),
    "version": Allowance(100, 50),
    "retry": Allowance(1000, 1000),
    "log": Allowance(5, 1),
}


@dataclass(slots=True, eq=False)
class _Member:
    tunnel: Tunnel
    address: Address
    cids: set[bytes] = field(default_factory=set)
    token: bytes = b""
    timer: asyncio.TimerHandle | None = None
    timer_at: float = 0.0
    deadline: asyncio.TimerHandle | None = None


Sign = Callable[[str, bytes, Callable[[bytes], None]], None]


class Endpoint:
    """`sign(identity, content, answer)` asks the signer; `serve` owns what others begin."""

    def __init__(
        self,
        wire: Wire,
        credentials: Credentials,
        sign: Sign,
        serve: Owner,
        counts: Counter[str],
        reset_key: bytes,
        limits: Limits,
        gate: GateLimits,
    ) -> None:
        self._wire, self._credentials, self._sign, self._serve, self._counts = wire, credentials, sign, serve, counts
        self._reset_key, self._limits, self._gate = reset_key, limits, gate
        self._loop = asyncio.get_running_loop()
        self._members: dict[Tunnel, _Member] = {}
        self._routes: dict[bytes, _Member] = {}
        self._tokens: dict[bytes, _Member] = {}
        self._unproven = 0
        self._dirty: dict[Tunnel, None] = {}
        self._scheduled = False
        self._strangers = Floods(monotonic(), STRANGERS)
        self._retry = QuicRetryTokenHandler()
        self.draining = False
        wire.listen(self._received)

    @property
    def tunnels(self) -> list[Tunnel]:
        return list(self._members)

    # --- connections

    def connect(
        self, address: Address, own: Own, target: str, server_name: str, owner: Owner, limits: Limits
    ) -> Tunnel:
        now = monotonic()
        connection = Connection(
            configuration(True, limits, server_name),
            self._credentials,
            self._reset_key,
            now,
            limits=limits,
            own=own,
            expected=target,
        )
        connection.connect(address, now)
        self._counts["connections_begun/client"] += 1
        return self._join(connection, owner, address).tunnel

    def _join(self, connection: Connection, owner: Owner, address: Address) -> _Member:
        tunnel = Tunnel(connection, owner, self.wake, self._counts, self._loop.time)
        member = self._members[tunnel] = _Member(tunnel, address)
        self._route(member, connection.host_cid)
        self.wake(tunnel)
        return member

    def _route(self, member: _Member, cid: bytes) -> None:
        member.cids.add(cid)
        self._routes[cid] = member

    def _leave(self, member: _Member) -> None:
        for timer in (member.timer, member.deadline):
            if timer is not None:
                timer.cancel()
        for cid in member.cids:
            self._routes.pop(cid, None)
        if self._tokens.get(member.token) is member:
            del self._tokens[member.token]
        if self._members.pop(member.tunnel, None) is not None and member.deadline is not None:
            self._unproven -= 1
            member.deadline = None

    # --- what comes

    def _received(self, came: Sequence[tuple[Sequence[bytes], Address]]) -> None:
        now = monotonic()
        touched: dict[_Member, None] = {}
        for datagrams, address in came:
            for data in datagrams:
                member = self._whose(data, address, now)
                if member is not None:
                    touched[member] = None
                    receive = member.tunnel.connection.receive_datagram
                    self._guard(member, partial(receive, data, address, now))
        for member in touched:
            self._attend(member)

    def _whose(self, data: bytes, address: Address, now: float) -> _Member | None:
        seen = glance(data, CID_BYTES)
        if seen is None:
            self._counts["datagrams_dropped/garbage"] += 1
            return None
        member = self._routes.get(seen.destination)
        if member is not None:
            return member
        if seen.version is None:
            self._stateless(data, seen.destination, address, now)
            return None
        return self._stranger(data, address, now)

    def _stateless(self, data: bytes, destination: bytes, address: Address, now: float) -> None:
        """A short packet of a connection that we do not know: the peer has forgotten one of ours, or we one of his."""
        member = self._tokens.get(data[-16:])
        if member is not None:
            self._counts["resets/received"] += 1
            self._lose(member)
            return
        answer = reset_datagram(reset_token(self._reset_key, destination), len(data), os.urandom(32))
        if answer and self._strangers.allows("reset", now):
            self._counts["resets/sent"] += 1
            self._wire.send([answer], address)
        else:
            self._counts["datagrams_dropped/unknown"] += 1

    def _lose(self, member: _Member) -> None:
        """The peer does not know the connection any more: it is over at once."""
        connection = member.tunnel.connection
        connection.was_told = True
        connection.end(QuicErrorCode.NO_ERROR, "stateless reset")
        self._attend(member)

    def _stranger(self, data: bytes, address: Address, now: float) -> _Member | None:
        """A first packet, or one of a version that we do not speak."""
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=CID_BYTES)
        except ValueError:
            self._counts["datagrams_dropped/garbage"] += 1
            return None
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION or len(data) < INITIAL_BYTES_MIN:
            self._counts["datagrams_dropped/short"] += 1
            return None
        if header.version != QuicProtocolVersion.VERSION_1:
            self._negotiate(header, address, now)
            return None
        if header.packet_type != QuicPacketType.INITIAL:
            self._counts["datagrams_dropped/unknown"] += 1
            return None
        return self._enter(header, address, now)

    def _negotiate(self, header: QuicHeader, address: Address, now: float) -> None:
        if not self._strangers.allows("version", now):
            self._counts["datagrams_dropped/unknown"] += 1
            return
        self._counts["initials/version"] += 1
        answer = encode_quic_version_negotiation(
            source_cid=header.destination_cid,
            destination_cid=header.source_cid,
            supported_versions=[QuicProtocolVersion.VERSION_1],
        )
        self._wire.send([answer], address)

    def _enter(self, header: QuicHeader, address: Address, now: float) -> _Member | None:
        original, proven = header.destination_cid, False
        if header.token:
            try:
                original = self._retry.validate_token(
                    address=address, destination_cid=header.destination_cid, token=header.token, now=now
                )
                proven = True
            except ValueError:
                self._counts["initials/token"] += 1  # as if it had none
        entry = admit(len(self._members), self._unproven, proven, self.draining, self._gate)
        if entry is Entry.IN:
            return self._accept(header, address, now, original, header.destination_cid if proven else None)
        self._counts[f"initials/{entry}"] += 1
        if entry is Entry.RETRY and self._strangers.allows("retry", now):
            self._send_retry(header, address, now)
        return None

    def _send_retry(self, header: QuicHeader, address: Address, now: float) -> None:
        cid = os.urandom(CID_BYTES)
        token = self._retry.create_token(
            address=address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=cid,
            now=now,
        )
        answer = encode_quic_retry(
            version=QuicProtocolVersion.VERSION_1,
            source_cid=cid,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self._wire.send([answer], address)

    def _accept(
        self, header: QuicHeader, address: Address, now: float, original: bytes, retried: bytes | None
    ) -> _Member:
        connection = Connection(
            configuration(False, self._limits),
            self._credentials,
            self._reset_key,
            now,
            limits=self._limits,
            original_destination=original,
            retry_source=retried,
        )
        self._counts["connections_begun/server"] += 1
        member = self._join(connection, self._serve, address)
        self._route(member, header.destination_cid)
        self._unproven += 1
        member.deadline = self._loop.call_later(HANDSHAKE_SECONDS, self._late, member)
        return member

    def _late(self, member: _Member) -> None:
        self._counts["initials/late"] += 1
        member.tunnel.connection.end(QuicErrorCode.CONNECTION_REFUSED, "the handshake takes too long")
        self._attend(member)

    # --- each connection's turn

    def _guard(self, member: _Member, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:
            if self._strangers.allows("log", monotonic()):
                log.exception("a connection with %s is ended: its packets could not be handled", member.address)
            self._counts["connections_aborted/mistake"] += 1
            member.tunnel.connection.end(QuicErrorCode.INTERNAL_ERROR, "mistake")

    def _attend(self, member: _Member) -> None:
        """Something came, or its time did."""
        self._guard(member, partial(self._process, member))
        if member.tunnel.is_closed:
            self._leave(member)

    def _process(self, member: _Member) -> None:
        tunnel = member.tunnel
        new, gone = tunnel.connection.changed_cids()
        for cid in new:
            self._route(member, cid)
        for cid in gone:
            member.cids.discard(cid)
            self._routes.pop(cid, None)
        tunnel.process()
        self._know_token(member)
        if tunnel.connection.is_connected and member.deadline is not None:
            member.deadline.cancel()
            member.deadline = None
            self._unproven -= 1
        self._ask(tunnel)

    def _know_token(self, member: _Member) -> None:
        token = member.tunnel.connection.peer_reset_token
        if token and token != member.token:
            if self._tokens.get(member.token) is member:
                del self._tokens[member.token]
            member.token = token
            self._tokens[token] = member

    def _ask(self, tunnel: Tunnel) -> None:
        """A handshake waits for a signature."""
        content = tunnel.connection.signature_wanted()
        if content:
            self._sign(tunnel.connection.own, content, lambda signature: self._signed(tunnel, signature))

    def _signed(self, tunnel: Tunnel, signature: bytes) -> None:
        member = self._members.get(tunnel)
        if member is not None:
            self._guard(member, partial(member.tunnel.connection.signed, signature))
            self._attend(member)

    def wake(self, tunnel: Tunnel) -> None:
        """It has something to send, or its timer may have moved."""
        self._dirty[tunnel] = None
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        dirty, self._dirty = self._dirty, {}
        for tunnel in dirty:
            member = self._members.get(tunnel)
            if member is not None:
                self._guard(member, partial(self._send, member))

    def _send(self, member: _Member) -> None:
        tunnel, now = member.tunnel, monotonic()
        outgoing = tunnel.outgoing(now)
        begin = 0
        while begin < len(outgoing):  # usually all go to one address
            address, end = outgoing[begin][1], begin + 1
            while end < len(outgoing) and outgoing[end][1] == address:
                end += 1
            self._wire.send([data for data, _ in outgoing[begin:end]], address)
            begin = end
        if tunnel.connection.ending is not None:
            self._attend(member)  # its last word was said
        else:
            self._arm(member, tunnel.connection, now)

    def _arm(self, member: _Member, connection: Connection, now: float) -> None:
        """A timer that rings too early is cheaper than one that is set anew for each packet."""
        at = connection.get_timer()
        if at is None:
            if member.timer is not None:
                member.timer.cancel()
                member.timer = None
        elif member.timer is None or at < member.timer_at:
            if member.timer is not None:
                member.timer.cancel()
            member.timer_at = at
            member.timer = self._loop.call_later(max(TIMER_SECONDS, at - now), self._ring, member)

    def _ring(self, member: _Member) -> None:
        member.timer = None
        connection, now = member.tunnel.connection, monotonic()
        at = connection.get_timer()
        if at is not None and at <= now:
            self._guard(member, partial(connection.handle_timer, now))
            self._attend(member)
        self.wake(member.tunnel)

    def close(self) -> None:
        """Without a word to anybody: who has something to say says it before."""
        for member in list(self._members.values()):
            member.tunnel.connection.end(QuicErrorCode.NO_ERROR, "the process ends")
            self._attend(member)
        self._wire.close()


def socket_address(ip: str, port: int, ipv6: bool) -> Address:
    """As a socket of that family has it."""
    if not ipv6:
        return (ip, port)
    found = ipaddress.ip_address(ip)
    return (f"::ffff:{ip}" if found.version == 4 else str(found), port, 0, 0)
