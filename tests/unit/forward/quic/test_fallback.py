"""A way that fails is left for a while and tried again in the background; nobody waits for what will fail."""

from mesh.forward.quic.fallback import (
    JITTER,
    LOSSES_SECONDS,
    PAUSE_SECONDS,
    PAUSE_SECONDS_MAX,
    STEADY_SECONDS,
    Memory,
    Way,
    failed,
    lost,
    succeeded,
    tried,
    way,
)

MIDDLE = 0.5  # of the jitter: none


def test_quic_is_believed_in_until_it_fails() -> None:
    assert way(Memory(), 0.0) is Way.QUIC


def test_after_a_failure_it_is_hbone_then_one_attempt_while_all_else_stays() -> None:
    memory = failed(Memory(), 100.0, MIDDLE, "no answer")
    assert way(memory, 100.0) is Way.HBONE
    assert way(memory, 100.0 + PAUSE_SECONDS - 0.1) is Way.HBONE
    assert way(memory, 100.0 + PAUSE_SECONDS) is Way.TRY
    memory = tried(memory)
    assert way(memory, 100.0 + PAUSE_SECONDS) is Way.HBONE
    assert memory.reason == "no answer"


def test_an_attempt_that_succeeds_brings_quic_back() -> None:
    memory = succeeded(tried(failed(Memory(), 0.0, MIDDLE, "")))
    assert way(memory, PAUSE_SECONDS) is Way.QUIC


def test_each_failure_doubles_the_pause_up_to_ten_minutes() -> None:
    memory, now, pauses = Memory(), 0.0, []
    for _ in range(9):
        memory = failed(tried(memory), now, MIDDLE, "")
        pauses.append(memory.until - now)
        now = memory.until
    assert pauses[:4] == [10, 20, 40, 80]
    assert max(pauses) == PAUSE_SECONDS_MAX


def test_nodes_do_not_try_again_in_the_same_instant() -> None:
    early, late = failed(Memory(), 0.0, 0.0, ""), failed(Memory(), 0.0, 1.0, "")
    assert late.until - early.until == 2 * JITTER * PAUSE_SECONDS


def test_many_connections_that_meet_the_same_silence_are_one_failure() -> None:
    memory = failed(Memory(), 0.0, MIDDLE, "")
    assert failed(memory, 0.1, MIDDLE, "") == memory


def test_a_way_that_loses_connection_after_connection_is_left_although_handshakes_pass() -> None:
    memory = Memory()
    for now in (0.0, 30.0):
        memory = lost(memory, now, lived=20.0, chance=MIDDLE)
        assert way(memory, now) is Way.QUIC
        memory = succeeded(memory)
    memory = lost(memory, 60.0, lived=20.0, chance=MIDDLE)
    assert way(memory, 60.0) is Way.HBONE
    assert "3 connections were lost" in memory.reason


def test_its_pause_grows_too_although_each_attempt_succeeds() -> None:
    memory, now, pauses = Memory(), 0.0, []
    for _ in range(3):
        for _ in range(3):
            memory = succeeded(memory)
            memory = lost(memory, now, 1.0, MIDDLE)
        pauses.append(memory.until - now)
        now = memory.until
    assert pauses == [10, 20, 40]


def test_losses_that_are_far_apart_do_not_count_together() -> None:
    memory = Memory()
    for number in range(5):
        memory = lost(memory, number * LOSSES_SECONDS, lived=20.0, chance=MIDDLE)
        assert way(memory, number * LOSSES_SECONDS) is Way.QUIC


def test_a_connection_that_was_steady_makes_up_for_the_past() -> None:
    memory = succeeded(failed(failed(Memory(), 0.0, MIDDLE, ""), 20.0, MIDDLE, ""))
    memory = lost(memory, 1000.0, lived=STEADY_SECONDS, chance=MIDDLE)
    assert failed(memory, 2000.0, MIDDLE, "").until == 2000.0 + PAUSE_SECONDS
