"""One QUIC connection (RFC 9000): aioquic's state machine with our handshake, a limit on everything, and sending that
costs by what is to be sent, not by how many streams there are. No I/O; the clock is an argument.

What aioquic leaves open, and what is here instead:
 - flow control doubles by offsets, without an end: here credit follows `take` (see `windows`);
 - control frames may come as often as a peer likes: here each kind has an allowance (see `floods`);
 - sparse STREAM frames cost time by the square of their number: here a stream has so many holes at most;
 - every packet visits every stream twice: here streams that have something to send stand in a queue of their own;
 - an acknowledgement waits a millisecond for nothing: here data that leaves earlier takes it along.
It reaches into aioquic's private parts, hence the pinned release.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from aioquic import tls
from aioquic._buffer import Buffer
from aioquic.buffer import size_uint_var
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    END_STATES,
    PATH_RESPONSE_FRAME_CAPACITY,
    QuicConnection,
    QuicConnectionError,
    QuicConnectionState,
    QuicReceiveContext,
    stream_is_client_initiated,
)
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicPacketType,
    QuicProtocolVersion,
    pull_quic_transport_parameters,
    push_quic_transport_parameters,
)
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from mesh.forward.quic.congestion import NAME
from mesh.forward.quic.floods import ALLOWANCES, Allowance, Floods
from mesh.forward.quic.handshake import H3, Credentials, MutualTls, Own
from mesh.forward.quic.recovery import Recovery
from mesh.forward.quic.repeats import FRAME_BYTES_MAX, Frame, Repeats
from mesh.forward.quic.windows import Budget, Window
from mesh.model import Value

CID_BYTES = 8
RESET_TOKEN_BYTES = 16
MAX_ACK_DELAY_MS = 5  # what peers add to their probe timeout; we acknowledge within 1 ms, and the loop within 5
CRYPTO_BYTES_MAX = 16384  # of handshake messages that wait for what is before them; ours have 2 KiB in all
FRAME_ROOM = 32  # less room is not worth a STREAM frame: its head has up to 19 bytes
IDLE_TIMEOUT = "Idle timeout"  # as aioquic says it


class Limits(Value, frozen=True):
    """Of one connection; each with its reason."""

    requests: int = 100  # at a time: ztunnel's 100 per connection, then another connection
    uni_streams: int = 16  # three are needed, and some of unknown type must be borne
    stream_bytes: int = 128 << 10  # what a stream may have under way at first: 50 Mbit/s at 20 ms
    stream_bytes_max: int = 4 << 20  # HBONE's; a Python loop fills no more at 80 ms
    growth_bytes: int = 16 << 20  # by which the windows of all streams may grow
    connection_bytes: int = 32 << 20  # above what all streams may have together: one never waits for another
    holes: int = 512  # in what came of a stream; 4 MiB at 3 % loss have 90
    datagram_bytes: int = 1200
    idle_seconds: float = 15.0
    initial_rtt: float = 0.05  # the first probe goes after twice that


LIMITS = Limits()


def head_bytes(stream_id: int, offset: int) -> int:
    """Of a STREAM frame, with a length of two bytes."""
    return 3 + size_uint_var(stream_id) + (size_uint_var(offset) if offset else 0)


def reset_token(key: bytes, cid: bytes) -> bytes:
    """What proves that a connection of ours is forgotten (RFC 9000 10.3): the same in the process that comes after."""
    return hmac.digest(key, cid, "sha256")[:RESET_TOKEN_BYTES]


def configuration(is_client: bool, limits: Limits, server_name: str = "") -> QuicConfiguration:
    made = QuicConfiguration(
        is_client=is_client,
        alpn_protocols=[H3],
        congestion_control_algorithm=NAME,
        connection_id_length=CID_BYTES,
        idle_timeout=limits.idle_seconds,
        max_data=limits.connection_bytes,
        max_stream_data=limits.stream_bytes,
        max_datagram_size=limits.datagram_bytes,
        initial_rtt=limits.initial_rtt,
        server_name=server_name or None,
        supported_versions=[QuicProtocolVersion.VERSION_1],
    )
    if not is_client:  # aioquic insists on them; the handshake finds its own
        made.certificate = made.private_key = object()
    return made


class Connection(QuicConnection):
    """`own` and `expected`: a client's identity, and the server that it wants."""

    def __init__(
        self,
        configuration: QuicConfiguration,
        credentials: Credentials,
        reset_key: bytes,
        now: float,
        *,
        limits: Limits = LIMITS,
        own: Own | None = None,
        expected: str = "",
        original_destination: bytes | None = None,
        retry_source: bytes | None = None,
        allowances: Mapping[str, Allowance] = ALLOWANCES,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination,
            retry_source_connection_id=retry_source,
        )
        self.limits = limits
        self.abuse = ""  # the kind of frame that came too often
        self.was_told = False  # the peer has closed it
        self.tls_context: MutualTls | None = None
        self._credentials, self._own, self._expected, self._reset_key = credentials, own, expected, reset_key
        self._floods = Floods(now, allowances)
        self._new_cids: list[bytes] = []
        self._gone_cids: list[bytes] = []
        self._asked = False  # for a signature
        self._budget = Budget(limits.growth_bytes)
        self._windows: dict[int, Window] = {}
        self._taken = 0  # of all streams
        self._ready: dict[int, QuicStream] = {}  # have something to send, in turn
        self._held: dict[int, QuicStream] = {}  # have, but the peer gives no credit
        self._credits: dict[int, QuicStream] = {}  # whose new limit is to be told
        self._repeats = Repeats()
        self._ending: dict[int, QuicStream] = {}  # our side has ended, and is not acknowledged yet
        self._recovery = self._loss = Recovery(
            congestion_control_algorithm=configuration.congestion_control_algorithm,
            initial_rtt=configuration.initial_rtt,
            max_datagram_size=self._max_datagram_size,
            peer_completed_address_validation=not self._is_client,
            send_probe=self._send_probe,
            logger=self._logger,
        )
        for limit, value in (
            (self._local_max_streams_bidi, 0 if self._is_client else limits.requests),
            (self._local_max_streams_uni, limits.uni_streams),
        ):
            limit.value = limit.sent = value
        if not self._is_client:
            self._host_cids[0].stateless_reset_token = reset_token(reset_key, self.host_cid)

    # --- what its user asks and says

    @property
    def is_connected(self) -> bool:
        return self._handshake_complete

    @property
    def is_confirmed(self) -> bool:
        """The peer has accepted us too: a client learns it a round trip after it is connected (RFC 9001 4.1.2)."""
        return self._handshake_confirmed

    @property
    def peer(self) -> str:
        """The SPIFFE id that the peer has proven; empty before the handshake is over."""
        return self.tls_context.peer if self._handshake_complete and self.tls_context else ""

    @property
    def peer_chain(self) -> tuple[bytes, ...]:
        """The certificates that proved it; DER, leaf first."""
        return tuple(self.tls_context.peer_chain) if self.tls_context else ()

    @property
    def own(self) -> str:
        """As whom we speak on this connection."""
        return self.tls_context.own.name if self.tls_context and self.tls_context.own else ""

    @property
    def rtt(self) -> float:
        return self._loss._rtt_smoothed or self.limits.initial_rtt

    @property
    def peer_reset_token(self) -> bytes:
        """By which the peer would say that it has forgotten this connection; empty: it gave none."""
        return self._peer_cid.stateless_reset_token

    @property
    def ending(self) -> events.ConnectionTerminated | None:
        """Why it is over, from the moment that one side has said so; aioquic tells it three probe timeouts later."""
        return self._close_event if self._state in END_STATES else None

    @property
    def is_client(self) -> bool:
        return self._is_client

    @property
    def first_unseen_request(self) -> int:
        """The lowest stream that the peer has not begun."""
        return self._local_max_streams_bidi.used * 4

    def receives(self, stream_id: int) -> bool:
        """Whether more may come of a stream."""
        stream = self._streams.get(stream_id)
        return stream is not None and not stream.receiver.is_finished

    @property
    def requests_left(self) -> int:
        """How many streams we may open now."""
        return self._remote_max_streams_bidi - self._local_next_stream_id_bidi // 4

    def signature_wanted(self) -> bytes:
        """What is to be signed as `own`; told once, empty: nothing."""
        if self._asked or self.tls_context is None or not self.tls_context.wanted:
            return b""
        self._asked = True
        return self.tls_context.wanted

    def end(self, code: int, reason: str) -> None:
        """Over at once, and without a word to the peer."""
        if self._state not in END_STATES:
            self._close_event = events.ConnectionTerminated(code, QuicFrameType.PADDING, reason)
            self._close_end()

    def signed(self, signature: bytes) -> None:
        """The handshake goes on with the signature that it wanted."""
        assert self.tls_context is not None
        try:
            self.tls_context.signed(signature)
        except tls.Alert as alert:
            code = QuicErrorCode.CRYPTO_ERROR + int(alert.description)
            self.close(error_code=code, frame_type=QuicFrameType.CRYPTO, reason_phrase=str(alert))
            return
        self._push_crypto_data()
        if self._is_client:  # as _handle_crypto_frame does when the last message was handled
            self._handshake_complete = True
            self._replenish_connection_ids()
            self._events.append(
                events.HandshakeCompleted(alpn_protocol=H3, early_data_accepted=False, session_resumed=False)
            )
            self._unblock_streams(is_unidirectional=False)
            self._unblock_streams(is_unidirectional=True)

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        super().send_stream_data(stream_id, data, end_stream)
        stream = self._streams[stream_id]
        self._ready[stream_id] = stream
        if end_stream:
            self._ending[stream_id] = stream

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        super().reset_stream(stream_id, error_code)
        self._note(stream_id)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        """Want nothing more of it; what still comes is taken at once."""
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.receiver.is_finished:
            super().stop_stream(stream_id, error_code)
            self._note(stream_id)

    def _note(self, stream_id: int) -> None:
        if (stream := self._streams.get(stream_id)) is not None:
            self._ready[stream_id] = self._ending[stream_id] = stream

    def unsent(self, stream_id: int) -> int:
        """Bytes that wait for a first sending."""
        stream = self._streams.get(stream_id)
        return stream.sender._buffer_stop - stream.sender.highest_offset if stream else 0

    def take(self, stream_id: int, count: int, waiting: int, now: float) -> bool:
        """`count` bytes of a stream were used, `waiting` came and were not. True: there is new credit to be told."""
        self._take(count)
        news = self._local_max_data.value != self._local_max_data.sent
        stream = self._streams.get(stream_id)
        if stream is None:
            return news
        window = self._windows.get(stream_id)
        if window is None:
            window = Window(self._budget, self.limits.stream_bytes, self.limits.stream_bytes_max)
            self._windows[stream_id] = window
        if window.take(count, waiting, now, self.rtt) and not stream.receiver.is_finished:
            stream.max_stream_data_local = window.limit
            self._credits[stream_id] = stream
            news = True
        return news

    def _take(self, count: int) -> None:
        self._taken += count
        limit = self._local_max_data
        if limit.value - self._taken <= self.limits.connection_bytes // 2:
            limit.value = self._taken + self.limits.connection_bytes

    # --- the handshake

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls = self.tls_context = MutualTls(self.tls, self._credentials, self._own, self._expected)

    def _serialize_transport_parameters(self) -> bytes:
        parameters = pull_quic_transport_parameters(Buffer(data=super()._serialize_transport_parameters()))
        parameters.max_ack_delay = MAX_ACK_DELAY_MS
        parameters.initial_max_stream_data_bidi_local = self.limits.stream_bytes if self._is_client else 0
        parameters.initial_max_stream_data_bidi_remote = 0 if self._is_client else self.limits.stream_bytes
        buffer = Buffer(capacity=1024)
        push_quic_transport_parameters(buffer, parameters)
        return buffer.data

    def _replenish_connection_ids(self) -> None:
        known = len(self._host_cids)
        super()._replenish_connection_ids()
        for each in self._host_cids[known:]:
            each.stateless_reset_token = reset_token(self._reset_key, each.cid)
            self._new_cids.append(each.cid)

    def changed_cids(self) -> tuple[list[bytes], list[bytes]]:
        """Connection ids by which the peer may now call us, and such that are over, since this was asked last."""
        changed = self._new_cids, self._gone_cids
        self._new_cids, self._gone_cids = [], []
        return changed

    # --- what the peer may do, and how often

    def _allow(self, kind: str, context: QuicReceiveContext, frame_type: int) -> None:
        if not self._floods.allows(kind, context.time):
            self.excess(kind, frame_type)

    def excess(self, kind: str, frame_type: int = QuicFrameType.PADDING) -> None:
        """Ends the connection, from within the handling of a frame."""
        self.abuse = kind
        raise QuicConnectionError(QuicErrorCode.PROTOCOL_VIOLATION, frame_type, f"too many frames: {kind}")

    def allows(self, kind: str, now: float) -> bool:
        """For what is no frame of QUIC."""
        if self._floods.allows(kind, now):
            return True
        self.abuse = kind
        return False

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        if self._close_pending:  # it is over: what came in the same turn of the loop is not looked at
            return
        crypto = self._cryptos.get(Epoch.ONE_RTT)
        phase = crypto.recv.key_phase if crypto else 0
        super().receive_datagram(data, addr, now)
        if crypto and crypto.recv.key_phase != phase and not self.allows("key_update", now):
            self.close(QuicErrorCode.KEY_UPDATE_ERROR, QuicFrameType.PADDING, "too many key updates")

    def _handle_connection_close_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self.was_told = self._close_event is None
        super()._handle_connection_close_frame(context, frame_type, buf)

    def _handle_path_challenge_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("path_challenge", context, frame_type)
        super()._handle_path_challenge_frame(context, frame_type, buf)

    def _handle_new_connection_id_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("connection_id", context, frame_type)
        super()._handle_new_connection_id_frame(context, frame_type, buf)

    def _handle_retire_connection_id_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("connection_id", context, frame_type)
        known = [each.cid for each in self._host_cids]
        super()._handle_retire_connection_id_frame(context, frame_type, buf)
        left = {each.cid for each in self._host_cids}
        self._gone_cids += [cid for cid in known if cid not in left]

    def _handle_reset_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("reset", context, frame_type)
        super()._handle_reset_stream_frame(context, frame_type, buf)

    def _handle_stop_sending_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("reset", context, frame_type)
        super()._handle_stop_sending_frame(context, frame_type, buf)

    def _handle_ping_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("ping", context, frame_type)
        super()._handle_ping_frame(context, frame_type, buf)

    def _handle_data_blocked_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("blocked", context, frame_type)
        super()._handle_data_blocked_frame(context, frame_type, buf)

    def _handle_stream_data_blocked_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("blocked", context, frame_type)
        super()._handle_stream_data_blocked_frame(context, frame_type, buf)

    def _handle_streams_blocked_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("blocked", context, frame_type)
        super()._handle_streams_blocked_frame(context, frame_type, buf)

    def _handle_max_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("limit", context, frame_type)
        super()._handle_max_data_frame(context, frame_type, buf)
        self._release()

    def _handle_max_stream_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        self._allow("limit", context, frame_type)
        super()._handle_max_stream_data_frame(context, frame_type, buf)
        self._release()

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        """A stranger's first packet may name any offset, and aioquic holds half a megabyte for it."""
        start = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(start)
        if end - self._crypto_streams[context.epoch].receiver.starting_offset() > CRYPTO_BYTES_MAX:
            raise QuicConnectionError(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "too much out of order")
        super()._handle_crypto_frame(context, frame_type, buf)

    def _handle_stream_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        super()._handle_stream_frame(context, frame_type, buf)
        end = buf.tell()
        buf.seek(start)
        stream = self._streams.get(buf.pull_uint_var())
        buf.seek(end)
        if stream is not None and len(stream.receiver._ranges) > self.limits.holes:
            self.excess("hole", frame_type)

    def _unblock_streams(self, is_unidirectional: bool) -> None:
        super()._unblock_streams(is_unidirectional)
        self._release()

    def _release(self) -> None:
        """The peer gave credit: whoever waited for some tries again."""
        self._ready.update(self._held)
        self._held.clear()

    # --- the end of streams

    def _sweep(self) -> None:
        """Forget streams that are over in both directions; streams whose frames were lost send again."""
        self._streams_queue.clear()  # aioquic's own order; ours is _ready
        if self._recovery.lost:
            self._recovery.lost = False
            for stream_id, stream in self._streams.items():
                sender = stream.sender
                if sender.reset_pending or stream.receiver.stop_pending or not sender.buffer_is_empty:
                    self._ready.setdefault(stream_id, stream)
        for stream_id, stream in list(self._ending.items()):
            if stream.sender.is_finished:
                del self._ending[stream_id]
                self.forget(stream_id)

    def forget(self, stream_id: int) -> None:
        """Let go of a stream, if both its directions are over."""
        stream = self._streams.get(stream_id)
        if stream is None or not stream.is_finished:
            return
        del self._streams[stream_id]
        for place in (self._ready, self._held, self._credits, self._ending):
            place.pop(stream_id, None)
        window = self._windows.pop(stream_id, None)
        if window is not None:
            window.close()
        untaken = stream.receiver.highest_offset - (window.taken if window else 0)
        if untaken > 0:  # it was reset: nobody will take them
            self._take(untaken)
        if stream_is_client_initiated(stream_id) != self._is_client:
            self._stream_limit(stream_id).value += 1

    # --- sending

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """Of several calls in a turn of the loop most have nothing to send: they are cheap."""
        ordinary = self._handshake_confirmed and not self._close_pending and len(self._network_paths) == 1
        if ordinary and self._state is QuicConnectionState.CONNECTED:
            self._sweep()
            if not self._has_news(self._spaces[Epoch.ONE_RTT], self._network_paths[0], now):
                return []
        datagrams = super().datagrams_to_send(now)
        self._repeats.give_up(now)
        if not self._ready:
            self._recovery.control.has_no_more()
        return datagrams

    def _write_application(self, builder: QuicPacketBuilder, network_path: Any, now: float) -> None:
        crypto = self._cryptos[Epoch.ONE_RTT]
        if not crypto.send.is_valid():
            return
        space = self._spaces[Epoch.ONE_RTT]
        self._sweep()
        while self._has_news(space, network_path, now):
            speaking = bool(self._ready) or self._repeats_due(now)
            acknowledging = space.ack_at is not None and (space.ack_at <= now or speaking)
            if not acknowledging:
                self._pacing_at = self._recovery.pacer.next_send_time(now)
                if self._pacing_at is not None:
                    return
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            if acknowledging:
                self._write_ack_frame(builder=builder, space=space, now=now)
            if self._handshake_complete:
                self._write_control(builder, network_path, now)
            self._write_credits(builder, space)
            self._write_pings(builder)
            if not self._crypto_streams[Epoch.ONE_RTT].sender.buffer_is_empty:
                self._write_crypto_frame(builder=builder, space=space, stream=self._crypto_streams[Epoch.ONE_RTT])
            self._write_streams(builder, now)
            self._write_repeats(builder, now)
            if builder.packet_is_empty:
                return
            self._recovery.pacer.spend(builder._buffer.tell() - builder._packet_start)

    def _has_news(self, space: QuicPacketSpace, network_path: Any, now: float) -> bool:
        """Whether a packet may be worth the making."""
        return bool(
            self._ready
            or self._credits
            or self._repeats_due(now)
            or (space.ack_at is not None and space.ack_at <= now)
            or self._probe_pending
            or self._ping_pending
            or self._handshake_done_pending
            or network_path.remote_challenges
            or not network_path.is_validated
            or self._retire_connection_ids
            or self._streams_blocked_pending
            or self._local_max_data.value != self._local_max_data.sent
            or self._local_max_streams_bidi.value != self._local_max_streams_bidi.sent
            or not self._crypto_streams[Epoch.ONE_RTT].sender.buffer_is_empty
            or any(not each.was_sent for each in self._host_cids)
        )

    def _write_control(self, builder: QuicPacketBuilder, network_path: Any, now: float) -> None:
        """As aioquic does, frame by frame (RFC 9000 sections 5.1, 8.2, 9.3)."""
        if not (network_path.is_validated or network_path.local_challenge_sent):
            self._write_path_challenge_frame(builder=builder, network_path=network_path)
            if network_path.validation_deadline is None:
                patience = max(self._loss.get_probe_timeout(), 2 * self._configuration.initial_rtt)
                network_path.validation_deadline = now + 3 * patience
        if self._handshake_done_pending:
            self._write_handshake_done_frame(builder=builder)
            self._handshake_done_pending = False
        while network_path.remote_challenges:
            buffer = builder.start_frame(QuicFrameType.PATH_RESPONSE, capacity=PATH_RESPONSE_FRAME_CAPACITY)
            buffer.push_bytes(network_path.remote_challenges.popleft())
        for connection_id in self._host_cids:
            if not connection_id.was_sent:
                self._write_new_connection_id_frame(builder=builder, connection_id=connection_id)
        while self._retire_connection_ids:
            self._write_retire_connection_id_frame(builder=builder, sequence_number=self._retire_connection_ids[0])
            self._retire_connection_ids.pop(0)
        if self._streams_blocked_pending:
            if self._streams_blocked_bidi:
                kind, limit = QuicFrameType.STREAMS_BLOCKED_BIDI, self._remote_max_streams_bidi
                self._write_streams_blocked_frame(builder=builder, frame_type=kind, limit=limit)
            self._streams_blocked_pending = False
        self._write_limits(builder)

    def _write_limits(self, builder: QuicPacketBuilder) -> None:
        """MAX_DATA and MAX_STREAMS. The latter in batches: not before the peer has fewer left than it would gain."""
        for limit in (self._local_max_data, self._local_max_streams_bidi, self._local_max_streams_uni):
            few = limit.sent - limit.used < limit.value - limit.sent
            if limit.value != limit.sent and (few or limit is self._local_max_data):
                buffer = builder.start_frame(
                    limit.frame_type, capacity=9, handler=self._on_connection_limit_delivery, handler_args=(limit,)
                )
                buffer.push_uint_var(limit.value)
                limit.sent = limit.value

    def _write_credits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        while self._credits:
            stream_id, stream = next(iter(self._credits.items()))
            buffer = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=17,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buffer.push_uint_var(stream_id)
            buffer.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local
            del self._credits[stream_id]

    def _on_max_stream_data_delivery(self, delivery: QuicDeliveryState, stream: QuicStream) -> None:
        lost = delivery != QuicDeliveryState.ACKED
        if lost and stream.stream_id in self._streams and not stream.receiver.is_finished:
            assert stream.stream_id is not None
            self._credits[stream.stream_id] = stream

    def _write_pings(self, builder: QuicPacketBuilder) -> None:
        if self._ping_pending:
            self._write_ping_frame(builder, self._ping_pending)
            self._ping_pending.clear()
        if self._probe_pending:
            self._write_ping_frame(builder, comment="probe")
            self._probe_pending = False

    def _write_streams(self, builder: QuicPacketBuilder, now: float) -> None:
        """One frame of each ready stream, as long as there is room; who has more goes to the end of the queue."""
        for stream_id in list(self._ready):
            if builder.remaining_flight_space < FRAME_ROOM:
                return
            stream = self._ready[stream_id]
            if stream.receiver.stop_pending:
                self._write_stop_sending_frame(builder=builder, stream=stream)
            if stream.sender.reset_pending:
                self._write_reset_stream_frame(builder=builder, stream=stream)
            elif stream.is_blocked:
                self._held[stream_id] = stream
            elif not stream.sender.buffer_is_empty:
                self._write_data(builder, stream_id, stream, now)
                continue
            del self._ready[stream_id]

    def _write_data(self, builder: QuicPacketBuilder, stream_id: int, stream: QuicStream, now: float) -> None:
        sender = stream.sender
        highest = sender.highest_offset
        overhead = head_bytes(stream_id, sender.next_offset)
        allowed = min(highest + self._remote_max_data - self._remote_max_data_used, stream.max_stream_data_remote)
        frame = sender.get_frame(builder.remaining_flight_space - overhead, allowed)
        del self._ready[stream_id]
        if frame is None:
            if not sender.buffer_is_empty:
                self._held[stream_id] = stream
            return
        sent = Frame(sender, stream_id, frame, now)
        self._push_stream_frame(builder, sent)
        self._remote_max_data_used += sender.highest_offset - highest
        if len(sender._pending) or sender._pending_eof:
            self._ready[stream_id] = stream
        else:
            sender.buffer_is_empty = True
            if len(frame.data) <= FRAME_BYTES_MAX and self._recovery.control.is_lossy_with_room:
                self._repeats.add(sent)

    def _push_stream_frame(self, builder: QuicPacketBuilder, frame: Frame) -> None:
        kind = QuicFrameType.STREAM_BASE | 2 | (4 if frame.offset else 0) | (1 if frame.fin else 0)
        buffer = builder.start_frame(kind, capacity=head_bytes(frame.stream_id, frame.offset), handler=frame.delivered)
        buffer.push_uint_var(frame.stream_id)
        if frame.offset:
            buffer.push_uint_var(frame.offset)
        buffer.push_uint16(len(frame.data) | 0x4000)
        buffer.push_bytes(frame.data)

    # --- small frames once more

    def _repeats_due(self, now: float) -> bool:
        due = self._repeats.due
        return due is not None and due <= now

    def _write_repeats(self, builder: QuicPacketBuilder, now: float) -> None:
        """With a packet that leaves anyway or because they are due."""
        while frame := self._repeats.next(now, builder.remaining_flight_space - FRAME_ROOM):
            frame.repeated()
            self._push_stream_frame(builder, frame)

    def get_timer(self) -> float | None:
        at, due = super().get_timer(), self._repeats.due
        return due if due is not None and self._state not in END_STATES and (at is None or due < at) else at
