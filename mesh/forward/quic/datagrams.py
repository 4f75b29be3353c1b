"""Datagrams as bytes: what one is at first sight, and how many of them leave in one system call; pure.

Source: RFC 8999 (what holds for every version), RFC 9000 sections 10.3 and 17; udp(7) for segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

SEGMENTS_MAX = 64  # the kernel's UDP_MAX_SEGMENTS before 6.9
BATCH_BYTES_MAX = 65000  # an IP packet has 65535, with its heads
RESET_BYTES_MIN = 21  # RFC 9000 10.3: shorter is no stateless reset
RESET_BYTES_MAX = 42  # looks like a short packet


class Glance(NamedTuple):
    destination: bytes  # connection id
    version: int | None  # None: a short header


def glance(data: bytes, cid_bytes: int) -> Glance | None:
    """None: no QUIC packet."""
    if len(data) < 1 + cid_bytes:
        return None
    if not data[0] & 0x80:
        return Glance(data[1 : 1 + cid_bytes], None) if data[0] & 0x40 else None
    if len(data) < 6 or len(data) < 6 + data[5]:
        return None
    return Glance(data[6 : 6 + data[5]], int.from_bytes(data[1:5], "big"))


def reset_datagram(token: bytes, length: int, chance: bytes) -> bytes:
    """A stateless reset in answer to a datagram of `length` bytes; empty: that was too short (resets must end)."""
    size = min(length - 1, RESET_BYTES_MAX)
    if size < RESET_BYTES_MIN:
        return b""
    head = chance[: size - len(token)]
    return bytes((0x40 | head[0] & 0x3F,)) + head[1:] + token


class Batch(NamedTuple):
    data: bytes
    segment: int  # bytes of each datagram but the last; 0: it is one datagram
    datagrams: int


def batches(datagrams: Sequence[bytes]) -> Iterator[Batch]:
    """Neighbours of one length leave together; the last of a batch may be shorter (UDP_SEGMENT)."""
    begin = 0
    while begin < len(datagrams):
        size = len(datagrams[begin])
        end, total = begin + 1, size
        while end < len(datagrams) and end - begin < SEGMENTS_MAX and total + len(datagrams[end]) <= BATCH_BYTES_MAX:
            following = len(datagrams[end])
            if following > size:
                break
            end, total = end + 1, total + following
            if following < size:
                break
        count = end - begin
        if count == 1:
            yield Batch(datagrams[begin], 0, 1)
        else:
            yield Batch(b"".join(datagrams[begin:end]), size, count)
        begin = end


def split(data: bytes, segment: int) -> Sequence[bytes]:
    """What UDP_GRO has joined."""
    if not segment or segment >= len(data):
        return (data,)
    return [data[at : at + segment] for at in range(0, len(data), segment)]
