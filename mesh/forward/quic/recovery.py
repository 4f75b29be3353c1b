"""What of aioquic's recovery is ours: packets leave at the rate that `congestion` finds, and losses are told.

Detection of losses and probes stay aioquic's (RFC 9002 section 6), but that a probe carries what two packets had, since
a frame may be on its way twice (see `repeats`), and that probes go on at a bounded pace: doubled without an end, they
leave a way that loses a quarter standing for minutes (seen). It takes the place of what the connection has made for
itself, hence the pinned release.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketRecovery, QuicPacketSpace

from mesh.forward.quic.congestion import Control

BURST_PACKETS_MIN = 10  # RFC 9002 7.2: the initial window
BURST_PACKETS_MAX = 64  # one system call's (see datagrams)
PROBE_SECONDS_MAX = 1.0  # between probes, however many were lost: within the idle timeout a dozen more may get through


class Pacer(QuicPacketPacer):
    """In bytes, at the rate that `control` finds, with a burst of what RFC 9002 7.7 allows at first, or half a window:
    aioquic counts small packets as full ones, and its bursts of a quarter window and never more than 16 packets make
    each small answer wait for a timer, and timers count milliseconds."""

    def __init__(self, control: Control, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._control = control
        self._rate = 0.0  # bytes per second; 0: as fast as it comes
        self._most = self._room = float(BURST_PACKETS_MIN * max_datagram_size)

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        size = self._max_datagram_size
        self._rate = self._control.pacing_rate(smoothed_rtt)
        self._most = max(BURST_PACKETS_MIN * size, min(congestion_window // 2, BURST_PACKETS_MAX * size))
        self._room = min(self._room, self._most)

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]  # aioquic's says float, and is None too
        if not self._rate:
            return None
        if now > self.evaluation_time:
            self._room = min(self._most, self._room + (now - self.evaluation_time) * self._rate)
            self.evaluation_time = now
        return None if self._room > 0 else now + (self._max_datagram_size - self._room) / self._rate

    def spend(self, size: int) -> None:
        self._room -= size


class Recovery(QuicPacketRecovery):
    """Remembers that packets were lost: their frames are to be sent again."""

    lost = False

    def __init__(self, *, max_datagram_size: int, **settings: Any) -> None:
        super().__init__(max_datagram_size=max_datagram_size, **settings)
        assert isinstance(self._cc, Control)
        self.control = self._cc
        self._pacer = self.pacer = Pacer(self.control, max_datagram_size)

    def on_ack_received(self, *, ack_rangeset: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace) -> None:
        super().on_ack_received(ack_rangeset=ack_rangeset, ack_delay=ack_delay, now=now, space=space)
        self.control.acknowledged(now)
        self._pacer.update_rate(self.control.congestion_window, self._rtt_smoothed)

    def on_loss_detection_timeout(self, *, now: float) -> None:
        super().on_loss_detection_timeout(now=now)
        while self._pto_count and self.get_probe_timeout() * 2**self._pto_count > PROBE_SECONDS_MAX:
            self._pto_count -= 1

    def reschedule_data(self, *, now: float, speed_up_handshake: bool = False) -> None:
        super().reschedule_data(now=now, speed_up_handshake=speed_up_handshake)
        if self.handshake_confirmed and not speed_up_handshake:
            space = self.spaces[-1]
            second = next((packet for packet in space.sent_packets.values() if packet.is_ack_eliciting), None)
            if second is not None:
                self._on_packets_lost(congestion_event=False, now=now, packets=[second], space=space)

    def _on_packets_lost(
        self,
        *,
        congestion_event: bool = True,
        now: float,
        packets: Iterable[QuicSentPacket],
        persistent_congestion: bool = False,
        space: QuicPacketSpace,
    ) -> None:
        known = list(packets)
        self.lost = self.lost or bool(known)
        super()._on_packets_lost(
            congestion_event=congestion_event,
            now=now,
            packets=known,
            persistent_congestion=persistent_congestion,
            space=space,
        )
