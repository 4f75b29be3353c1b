"""Small frames once more, a moment later: what is lost need not be missed and asked for.

A request that is lost is sent again after a round trip and an eighth; among many small ones that is what the slowest
wait for. Where a way is known to lose packets and has room, each small STREAM frame leaves twice: with the next packet,
or after a few milliseconds in one of its own. Bulk never does: it fills the window, and a retransmission costs it
nothing but a place. Whichever copy arrives first counts; only when all are lost is the frame lost (RFC 9000 13.3 leaves
to senders what they send again). Pure: time is an argument.
"""

from __future__ import annotations

from collections import deque

from aioquic.quic.packet import QuicStreamFrame
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStreamSender

FRAME_BYTES_MAX = 600  # two fit in a packet
REPEATS_MAX = 64  # that wait; those before them leave at once or never
SOONEST_SECONDS = 0.001  # packets that leave together are lost together
LATEST_SECONDS = 0.003  # a seventh of a round trip within which most have met another packet


class Frame:
    """One STREAM frame, on its way in one packet or two."""

    __slots__ = ("_copies", "_over", "_sender", "at", "data", "fin", "offset", "stream_id")

    def __init__(self, sender: QuicStreamSender, stream_id: int, frame: QuicStreamFrame, at: float) -> None:
        self._sender, self.stream_id, self.at = sender, stream_id, at
        self.data, self.offset, self.fin = frame.data, frame.offset, frame.fin
        self._copies, self._over = 1, False

    @property
    def is_wanted(self) -> bool:
        """Whether it may still be on its way, and nobody has given up its stream."""
        return not self._over and self._sender._reset_error_code is None

    def repeated(self) -> None:
        self._copies += 1

    def delivered(self, delivery: QuicDeliveryState) -> None:
        """What became of one copy."""
        self._copies -= 1
        if self._over or (delivery is not QuicDeliveryState.ACKED and self._copies):
            return
        self._over = True
        self._sender.on_data_delivery(delivery, self.offset, self.offset + len(self.data), self.fin)


class Repeats:
    """Frames that are to leave once more, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Frame] = deque()

    def add(self, frame: Frame) -> None:
        if len(self._waiting) < REPEATS_MAX:
            self._waiting.append(frame)

    @property
    def due(self) -> float | None:
        """When the first one leaves at the latest."""
        while self._waiting and not self._waiting[0].is_wanted:
            self._waiting.popleft()
        return self._waiting[0].at + LATEST_SECONDS if self._waiting else None

    def next(self, now: float, room: int) -> Frame | None:
        """One that may leave with a packet that has so much room for data; it waits no more."""
        if self.due is None or self._waiting[0].at + SOONEST_SECONDS > now or len(self._waiting[0].data) > room:
            return None
        return self._waiting.popleft()

    def give_up(self, now: float) -> None:
        """Those whose time has come and who found no room: the way is full, and no place for them."""
        while (due := self.due) is not None and due <= now:
            self._waiting.popleft()
