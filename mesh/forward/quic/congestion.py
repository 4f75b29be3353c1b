"""How much may be under way and how fast it leaves: by what arrives, not by what is lost; pure.

The way between two nodes loses packets that no queue has dropped, and what halves its window at each loss (aioquic's
Reno and Cubic) has none left at 3 %. So, as BBR (draft-cardwell-iccrg-bbr-congestion-control): the rate is the fastest
that was delivered in the last rounds, the window twice what that rate fills in the shortest round trip, and both are
probed now and then. A loss counts only when a round had more of them than chance gives; then the window shrinks as
others' would.
The bias: beside a flow that yields to each loss we take more than our half; small exchanges never wait for a window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from aioquic.quic.congestion.base import QuicCongestionControl, register_congestion_control
from aioquic.quic.packet_builder import QuicSentPacket

NAME = "delivery"
WINDOW_PACKETS_MIN = 10  # RFC 9002 7.2, the initial window: what small exchanges have under way
WINDOW_PACKETS_LEAST = 2  # after a way that passed nothing (RFC 9002 7.6)
RATE_ROUNDS = 10  # for which a delivered rate is believed
RTT_SECONDS = 10.0  # for which a round trip is; then the queue that we may have made is emptied once
PROBE_RTT_SECONDS = 0.2
STARTUP_GAIN = 2.885  # 2 / ln 2: doubles each round
WINDOW_GAIN = 2.0
CYCLE = (1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)  # of the rate, one shortest round trip each
FULL_GROWTH, FULL_ROUNDS = 1.25, 3  # a start is over when three rounds brought no quarter more
LOSS_SHARE_MAX = 0.1  # of a round: three times what chance takes on a bad way ...
LOSS_PACKETS_MIN = 8  # ... and not two of ten
LOSSY_SHARE = 0.003  # of the last packets: more than two that were lost, and fewer are no pattern
LOSSY_WEIGHT = 1 / 512  # of each packet in that share
SHRINK, RECOVER = 0.7, 1.25  # of the window after such a round, and after each better one


class Mode(Enum):
    STARTUP = 0
    DRAIN = 1
    PROBE_BW = 2


@dataclass(slots=True)
class _Sent:
    """What was known when a packet left (draft-cheng-iccrg-delivery-rate-estimation)."""

    at: float
    delivered: int
    delivered_at: float
    first_sent_at: float
    limited: bool  # by the application: the rate says nothing of the way


class Control(QuicCongestionControl):
    """Told of each packet by aioquic, and once of each acknowledgement by `acknowledged`."""

    def __init__(self, *, max_datagram_size: int) -> None:
        super().__init__(max_datagram_size=max_datagram_size)
        self._size = max_datagram_size
        self._sent: dict[int, _Sent] = {}
        self._delivered = 0
        self._delivered_at = self._first_sent_at = 0.0
        self._limited_until = 0
        self._newest: _Sent | None = None  # of the packets that this acknowledgement brought
        self._acked = 0
        self._loss_share = 0.0
        self._floor = self.congestion_window
        self._forget()

    def _forget(self) -> None:
        """Nothing is known of the way."""
        self._mode = Mode.STARTUP
        self._rates: deque[tuple[int, float]] = deque()  # round and rate; the first one is the fastest
        self._round = 0
        self._round_ends = self._delivered
        self._lost = self._lost_packets = self._acked_in_round = 0
        self._full_rate, self._full_count = 0.0, 0
        self._rtt, self._rtt_at = math.inf, 0.0
        self._probing_until = 0.0
        self._cycle, self._cycle_at = 2, 0.0
        self._bound = math.inf

    # --- what follows from it

    @property
    def rate(self) -> float:
        """Bytes per second that the way delivers; 0: not known."""
        return self._rates[0][1] if self._rates else 0.0

    @property
    def _product(self) -> float:
        """Bytes that fill the way."""
        return self.rate * self._rtt if self._rates and self._rtt < math.inf else 0.0

    def pacing_rate(self, smoothed_rtt: float) -> float:
        """Bytes per second at which to send, never so low that the least window would wait."""
        gain = {Mode.STARTUP: STARTUP_GAIN, Mode.DRAIN: 1 / STARTUP_GAIN, Mode.PROBE_BW: CYCLE[self._cycle]}[self._mode]
        start = STARTUP_GAIN if self._mode is Mode.STARTUP else 1.0
        return max(gain * self.rate, start * self._floor / max(smoothed_rtt, 1e-3))

    @property
    def is_lossy_with_room(self) -> bool:
        """Packets are lost here, and not because of us: applications have less to say than the way would take."""
        spare = self._limited_until > 0 and 2 * self.bytes_in_flight < self.congestion_window
        return spare and self._loss_share > LOSSY_SHARE

    # --- told by aioquic

    def on_packet_sent(self, *, packet: QuicSentPacket) -> None:
        at = packet.sent_time or 0.0
        if not self.bytes_in_flight:
            self._first_sent_at = self._delivered_at = at
        limited = self._limited_until > 0
        self._sent[id(packet)] = _Sent(at, self._delivered, self._delivered_at, self._first_sent_at, limited)
        self.bytes_in_flight += packet.sent_bytes

    def on_packet_acked(self, *, now: float, packet: QuicSentPacket) -> None:
        self.bytes_in_flight -= packet.sent_bytes
        self._delivered += packet.sent_bytes
        self._delivered_at = now
        self._loss_share -= self._loss_share * LOSSY_WEIGHT
        self._acked += packet.sent_bytes
        sent = self._sent.pop(id(packet))
        if self._newest is None or sent.at >= self._newest.at:
            self._newest = sent
            self._first_sent_at = sent.at

    def on_packets_expired(self, *, packets: Iterable[QuicSentPacket]) -> None:
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes
            self._sent.pop(id(packet))

    def on_packets_lost(self, *, now: float, packets: Iterable[QuicSentPacket]) -> None:
        for packet in packets:
            self.bytes_in_flight -= packet.sent_bytes
            self._sent.pop(id(packet))
            self._lost += packet.sent_bytes
            self._lost_packets += 1
            self._loss_share += (1 - self._loss_share) * LOSSY_WEIGHT

    def on_persistent_congestion(self) -> None:
        self._forget()
        self._floor = self.congestion_window = WINDOW_PACKETS_LEAST * self._size

    def on_rtt_measurement(self, *, now: float, rtt: float) -> None:
        if rtt <= self._rtt or now - self._rtt_at > RTT_SECONDS:
            if self._rtt < rtt:
                self._probing_until = now + PROBE_RTT_SECONDS
            self._rtt, self._rtt_at = rtt, now

    # --- told by our own connection

    def has_no_more(self) -> None:
        """What was sent is all there was: until it has arrived, rates are those of the application."""
        self._limited_until = max(self._delivered + self.bytes_in_flight, 1)

    def acknowledged(self, now: float) -> None:
        """All packets of one acknowledgement were told, those that are lost by it too."""
        newest, self._newest = self._newest, None
        acked, self._acked = self._acked, 0
        if newest is None:
            return
        self._acked_in_round += acked
        if 0 < self._limited_until < self._delivered:
            self._limited_until = 0
        is_new = newest.delivered >= self._round_ends
        if is_new:
            self._round += 1
            self._round_ends = self._delivered
        self._learn(newest, now)
        if is_new:
            self._close_round(newest.limited)
        self._advance(now)
        self._resize(acked, now)

    def _learn(self, newest: _Sent, now: float) -> None:
        interval = max(newest.at - newest.first_sent_at, now - newest.delivered_at)
        if interval < self._rtt * 0.9 or interval <= 0:  # compressed acknowledgements; a round trip takes what it takes
            return
        rate = (self._delivered - newest.delivered) / interval
        if newest.limited and rate < self.rate:
            return
        while self._rates and self._rates[-1][1] <= rate:
            self._rates.pop()
        self._rates.append((self._round, rate))
        while self._rates[0][0] < self._round - RATE_ROUNDS:
            self._rates.popleft()

    def _close_round(self, limited: bool) -> None:
        lost, packets, acked = self._lost, self._lost_packets, self._acked_in_round
        self._lost = self._lost_packets = self._acked_in_round = 0
        if packets >= LOSS_PACKETS_MIN and lost > LOSS_SHARE_MAX * (lost + acked):
            self._bound = max(SHRINK * self.congestion_window, self._floor)
            if self._mode is Mode.STARTUP:
                self._mode = Mode.DRAIN
            return
        self._bound *= RECOVER
        self._floor = WINDOW_PACKETS_MIN * self._size
        if self._mode is not Mode.STARTUP or limited:
            return
        if self.rate >= FULL_GROWTH * self._full_rate:
            self._full_rate, self._full_count = self.rate, 0
            return
        self._full_count += 1
        if self._full_count >= FULL_ROUNDS:
            self._mode = Mode.DRAIN

    def _advance(self, now: float) -> None:
        if self._mode is Mode.DRAIN and self.bytes_in_flight <= max(self._product, self._floor):
            self._mode, self._cycle, self._cycle_at = Mode.PROBE_BW, 2, now
        elif self._mode is Mode.PROBE_BW and now - self._cycle_at > self._rtt:
            if CYCLE[self._cycle] < 1 and self.bytes_in_flight > max(self._product, self._floor):
                return  # what was probed too much is still under way
            self._cycle, self._cycle_at = (self._cycle + 1) % len(CYCLE), now

    def _resize(self, acked: int, now: float) -> None:
        """Towards what the way holds; a start does not shrink."""
        starts = self._mode is Mode.STARTUP
        target = int((STARTUP_GAIN if starts or self._mode is Mode.DRAIN else WINDOW_GAIN) * self._product)
        window = self.congestion_window + acked
        if window > target:
            window = max(target, self.congestion_window) if starts else target
        if now < self._probing_until:
            window = min(window, int(self._product / 2))
        self.congestion_window = int(max(min(window, self._bound), self._floor))


register_congestion_control(NAME, Control)
