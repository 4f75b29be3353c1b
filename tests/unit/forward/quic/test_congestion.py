"""Window and rate over ways that are played: they fill them, lose nothing of it to chance, and yield to queues."""

from __future__ import annotations

import heapq
import random
from collections import deque
from itertools import count

from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicSentPacket
from aioquic.tls import Epoch

from mesh.forward.quic.congestion import LOSS_PACKETS_MIN, WINDOW_PACKETS_LEAST, WINDOW_PACKETS_MIN, Control, Mode

SIZE = 1250
FLOOR = WINDOW_PACKETS_MIN * SIZE
STEP = 0.0005


class Way:
    """A bottleneck with a queue before it. `demand`: bytes per second that the application has; 0: endless."""

    def __init__(
        self, rate: float, rtt: float, loss: float = 0.0, queue: float = 1e9, demand: float = 0.0, seed: int = 1
    ) -> None:
        self.control = Control(max_datagram_size=SIZE)
        self.rate, self.rtt, self.loss, self.queue, self.demand = rate, rtt, loss, queue, demand
        self.now = self.free_at = 0.0
        self.delivered = self.lost = 0
        self.wanted = self.room = 0.0
        self._chance, self._numbers = random.Random(seed), count()
        self._acks: list[tuple[float, int, QuicSentPacket]] = []
        self._out: deque[QuicSentPacket] = deque()

    def _packet(self) -> QuicSentPacket:
        number = next(self._numbers)
        return QuicSentPacket(
            epoch=Epoch.ONE_RTT,
            in_flight=True,
            is_ack_eliciting=True,
            is_crypto_packet=False,
            packet_number=number,
            packet_type=QuicPacketType.ONE_RTT,
            sent_time=self.now,
            sent_bytes=SIZE,
        )

    def _send(self) -> None:
        packet = self._packet()
        self.control.on_packet_sent(packet=packet)
        self._out.append(packet)
        begins = max(self.now, self.free_at)
        if (begins - self.now) * self.rate > self.queue or self._chance.random() < self.loss:
            return
        self.free_at = begins + SIZE / self.rate
        heapq.heappush(self._acks, (self.free_at + self.rtt, packet.packet_number, packet))

    def _acknowledge(self) -> None:
        while self._acks and self._acks[0][0] <= self.now:
            _, number, packet = heapq.heappop(self._acks)
            self._out.remove(packet)
            self.control.on_packet_acked(now=self.now, packet=packet)
            assert packet.sent_time is not None
            self.control.on_rtt_measurement(now=self.now, rtt=self.now - packet.sent_time)
            gone = [each for each in self._out if each.packet_number < number - 3]
            if gone:
                self.control.on_packets_lost(now=self.now, packets=gone)
                self.lost += len(gone)
                for each in gone:
                    self._out.remove(each)
            self.control.acknowledged(self.now)
            self.delivered += SIZE

    def run(self, seconds: float) -> float:
        """Bytes per second that arrived meanwhile."""
        end, before = self.now + seconds, self.delivered
        while self.now < end:
            self.now += STEP
            self._acknowledge()
            if not self._acks and self._out:  # all that was under way is lost: a probe finds out
                self.control.on_packets_lost(now=self.now, packets=list(self._out))
                self._out.clear()
            self.room = min(self.room + self.control.pacing_rate(self.rtt) * STEP, 10.0 * SIZE)
            self.wanted += self.demand * STEP
            while self.room > 0 and self.control.bytes_in_flight + SIZE <= self.control.congestion_window:
                if self.demand and self.wanted < SIZE:
                    self.control.has_no_more()
                    break
                self._send()
                self.room -= SIZE
                self.wanted -= SIZE
        return (self.delivered - before) / seconds


def test_a_clean_way_is_filled_without_a_long_queue() -> None:
    way = Way(rate=5e6, rtt=0.02)
    way.run(1.0)
    assert way.run(2.0) > 0.9 * way.rate
    assert way.control.congestion_window < 3 * way.rate * way.rtt + FLOOR


def test_chance_takes_packets_and_not_the_rate() -> None:
    """Reno's window is 1.2 / sqrt(p): at 3 % seven packets, a fifteenth of this way."""
    for loss in (0.01, 0.03):
        way = Way(rate=5e6, rtt=0.02, loss=loss)
        way.run(1.0)
        assert way.run(3.0) > 0.8 * way.rate


def test_small_exchanges_never_wait_for_window_or_pace() -> None:
    way = Way(rate=5e6, rtt=0.02, loss=0.03, demand=200_000)
    assert way.run(5.0) > 0.95 * way.demand
    assert way.control.congestion_window >= FLOOR
    assert way.control.pacing_rate(way.rtt) >= FLOOR / way.rtt
    assert way.control._mode is Mode.STARTUP, "what an application does not use, it has not found full"


def test_a_way_that_was_thought_faster_than_it_is_is_found_out() -> None:
    way = Way(rate=10e6, rtt=0.02)
    way.run(2.0)
    way.rate = 2e6
    way.run(4.0)  # its queue makes rounds of a fifth of a second, and ten of them are believed
    assert way.control.rate < 1.3 * way.rate
    assert way.run(1.0) > 0.85 * way.rate


def test_a_queue_that_overflows_shrinks_the_window_and_the_flow_settles() -> None:
    way = Way(rate=2e6, rtt=0.02, queue=10_000)
    way.run(3.0)
    before = way.lost
    assert way.run(3.0) > 0.7 * way.rate
    assert (way.lost - before) * SIZE < 0.15 * 3.0 * way.rate


def test_one_bad_round_is_not_chance() -> None:
    way = Way(rate=5e6, rtt=0.02)
    way.run(2.0)
    window = way.control.congestion_window
    way.loss = 0.5
    way.run(0.1)
    assert way.control.congestion_window < window
    way.loss = 0.0
    way.run(1.0)
    assert way.control.congestion_window > 0.8 * window, "and it comes back"


def test_two_of_ten_are_chance() -> None:
    assert LOSS_PACKETS_MIN > 2
    way = Way(rate=5e6, rtt=0.02, demand=300_000, loss=0.2)
    way.run(3.0)
    assert way.control.congestion_window >= FLOOR


def test_a_way_that_passes_nothing_is_begun_anew_with_the_least() -> None:
    way = Way(rate=5e6, rtt=0.02)
    way.run(1.0)
    way.control.on_persistent_congestion()
    assert way.control.congestion_window == WINDOW_PACKETS_LEAST * SIZE
    assert way.run(2.0) > 0.5 * way.rate


def test_what_is_under_way_is_counted_down_to_nothing() -> None:
    way = Way(rate=5e6, rtt=0.02, loss=0.03)
    way.run(0.5)
    packets = list(way._out)
    assert way.control.bytes_in_flight == len(packets) * SIZE > 0
    way.control.on_packets_expired(packets=packets)
    assert way.control.bytes_in_flight == 0
    assert way.control._sent == {}


def test_a_longer_round_trip_is_believed_after_a_while_and_the_queue_emptied_once() -> None:
    way = Way(rate=5e6, rtt=0.02)
    way.run(2.0)
    way.rtt = 0.05
    way.run(12.0)
    assert 0.05 <= way.control._rtt < 0.06
    assert way.run(2.0) > 0.8 * way.rate


def test_where_packets_are_lost_and_little_is_under_way_there_is_room_for_more_copies() -> None:
    for loss, demand, expected in ((0.0, 200_000, False), (0.03, 200_000, True), (0.03, 0, False)):
        way = Way(rate=5e6, rtt=0.02, loss=loss, demand=demand)
        way.run(5.0)
        assert way.control.is_lossy_with_room is expected, (loss, demand)
