"""A frame in two copies is delivered once, and lost only when both are; what may wait leaves in its time."""

from __future__ import annotations

from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.quic.stream import QuicStreamSender

from mesh.forward.quic.repeats import LATEST_SECONDS, REPEATS_MAX, SOONEST_SECONDS, Frame, Repeats

ACKED, LOST = QuicDeliveryState.ACKED, QuicDeliveryState.LOST
ROOM = 1000
NOW = 100.0


def sending(data: bytes = b"small", end: bool = True) -> tuple[QuicStreamSender, Frame]:
    sender = QuicStreamSender(stream_id=4, writable=True)
    sender.write(data, end_stream=end)
    frame = sender.get_frame(ROOM)
    assert frame is not None
    return sender, Frame(sender, 4, frame, NOW)


def twice() -> tuple[QuicStreamSender, Frame]:
    sender, frame = sending()
    frame.repeated()
    return sender, frame


def test_the_first_copy_that_arrives_delivers_it_and_the_other_changes_nothing() -> None:
    for later in (ACKED, LOST):
        sender, frame = twice()
        frame.delivered(ACKED)
        assert sender.is_finished
        assert not frame.is_wanted
        frame.delivered(later)
        assert sender.is_finished
        assert sender.get_frame(ROOM) is None, "nothing is sent a third time"


def test_it_is_lost_when_both_are() -> None:
    sender, frame = twice()
    frame.delivered(LOST)
    assert sender.get_frame(ROOM) is None
    frame.delivered(LOST)
    again = sender.get_frame(ROOM)
    assert again is not None
    assert (again.data, again.fin) == (b"small", True)


def test_one_copy_is_lost_and_the_other_arrives() -> None:
    sender, frame = twice()
    frame.delivered(LOST)
    frame.delivered(ACKED)
    assert sender.is_finished


def test_without_a_repetition_it_is_as_it_always_was() -> None:
    sender, frame = sending()
    frame.delivered(LOST)
    assert sender.get_frame(ROOM) is not None
    sender, frame = sending()
    frame.delivered(ACKED)
    assert sender.is_finished


def test_it_leaves_with_a_packet_that_is_not_its_neighbour_or_when_it_is_due() -> None:
    repeats, (_, frame) = Repeats(), sending()
    repeats.add(frame)
    assert repeats.due == NOW + LATEST_SECONDS
    assert repeats.next(NOW, ROOM) is None
    assert repeats.next(NOW + SOONEST_SECONDS, 3) is None, "there is no room"
    assert repeats.next(NOW + SOONEST_SECONDS, ROOM) is frame
    assert repeats.due is None


def test_what_has_arrived_or_was_given_up_is_not_repeated() -> None:
    repeats, (_, arrived), (sender, aborted) = Repeats(), sending(), sending()
    repeats.add(arrived)
    repeats.add(aborted)
    arrived.delivered(ACKED)
    sender.reset(1)
    assert repeats.due is None
    assert repeats.next(NOW + 1, ROOM) is None


def test_what_found_no_room_in_its_time_is_left_alone() -> None:
    repeats, (sender, frame) = Repeats(), sending()
    repeats.add(frame)
    repeats.give_up(NOW + SOONEST_SECONDS)
    assert len(repeats._waiting) == 1
    repeats.give_up(NOW + LATEST_SECONDS)
    assert len(repeats._waiting) == 0
    frame.delivered(LOST)
    assert sender.get_frame(ROOM) is not None


def test_no_more_wait_than_it_holds() -> None:
    repeats = Repeats()
    for _ in range(2 * REPEATS_MAX):
        repeats.add(sending()[1])
    assert len(repeats._waiting) == REPEATS_MAX
