"""Datagrams at first sight, stateless resets that end, and batches that the kernel takes apart as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.forward.quic.datagrams import (
    BATCH_BYTES_MAX,
    RESET_BYTES_MIN,
    SEGMENTS_MAX,
    Glance,
    batches,
    glance,
    reset_datagram,
    split,
)

CID = bytes(range(8))


def test_a_short_packet_has_the_connection_id_that_we_gave() -> None:
    assert glance(b"\x40" + CID + b"rest", 8) == Glance(CID, None)


def test_a_long_packet_says_how_long_its_is_and_its_version() -> None:
    assert glance(b"\xc0\x00\x00\x00\x01\x05abcde\x00rest", 8) == Glance(b"abcde", 1)


@pytest.mark.parametrize(
    "data", [b"", b"\x40", b"\x40" + CID[:7], b"\x00" + CID + b"rest", b"\xc0\x00\x00\x00\x01\x14" + bytes(15)]
)
def test_what_is_cut_or_lacks_the_fixed_bit_is_no_packet(data: bytes) -> None:
    assert glance(data, 8) is None


def test_a_reset_is_shorter_than_what_it_answers_so_that_two_nodes_never_answer_for_ever() -> None:
    token, chance = b"t" * 16, bytes(range(255, 191, -1))
    length = 1200
    sizes = []
    while answer := reset_datagram(token, length, chance):
        assert len(answer) < length
        assert answer.endswith(token)
        assert answer[0] & 0xC0 == 0x40  # a short packet's first bits
        sizes.append(length := len(answer))
    assert sizes[0] <= 42
    assert sizes[-1] >= RESET_BYTES_MIN
    assert len(sizes) <= 42 - RESET_BYTES_MIN + 1


@given(st.lists(st.integers(1, 1500), max_size=200))
def test_batches_are_what_the_kernel_cuts_into_the_same_datagrams(sizes: list[int]) -> None:
    datagrams = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
    out: list[bytes] = []
    for batch in batches(datagrams):
        assert batch.datagrams <= SEGMENTS_MAX
        assert len(batch.data) <= BATCH_BYTES_MAX
        parts = split(batch.data, batch.segment)
        assert len(parts) == batch.datagrams
        out += parts
    assert out == datagrams


def test_a_window_of_full_datagrams_is_one_system_call() -> None:
    assert [batch.datagrams for batch in batches([bytes(1200)] * 40 + [bytes(80)])] == [41]
