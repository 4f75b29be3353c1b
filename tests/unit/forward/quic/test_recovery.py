"""Packets leave at the rate that was found: what is little at once, what is much in time."""

from __future__ import annotations

from mesh.forward.quic.congestion import Control
from mesh.forward.quic.recovery import BURST_PACKETS_MAX, BURST_PACKETS_MIN, Pacer

SIZE = 1200


class Rate(Control):
    def pacing_rate(self, smoothed_rtt: float) -> float:
        return 1_200_000.0  # a full packet in a millisecond


def pacer(window: int = 10 * SIZE) -> Pacer:
    made = Pacer(Rate(max_datagram_size=SIZE), SIZE)
    made.update_rate(window, 0.02)
    return made


def burst(pacer: Pacer, now: float, size: int = SIZE) -> int:
    """How many leave at once."""
    for number in range(10_000):
        if pacer.next_send_time(now) is not None:
            return number
        pacer.spend(size)
    raise AssertionError("nothing holds it")


def test_before_anything_is_known_nothing_waits() -> None:
    assert Pacer(Rate(max_datagram_size=SIZE), SIZE).next_send_time(1.0) is None


def test_the_first_window_leaves_at_once_and_then_by_the_rate() -> None:
    made = pacer()
    assert burst(made, 1.0) == BURST_PACKETS_MIN
    at = made.next_send_time(1.0)
    assert at is not None
    assert 1.0 < at <= 1.001
    assert burst(made, 1.0035) in (3, 4)


def test_small_packets_count_as_what_they_are() -> None:
    assert burst(pacer(), 1.0, SIZE // 10) == 10 * BURST_PACKETS_MIN


def test_a_burst_is_half_a_window_and_no_more_than_one_system_call_takes() -> None:
    assert burst(pacer(80 * SIZE), 1.0) in (39, 40)
    made = pacer(1000 * SIZE)
    made.next_send_time(1.0)
    assert burst(made, 5.0) == BURST_PACKETS_MAX
