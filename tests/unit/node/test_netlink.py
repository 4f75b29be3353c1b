"""Attributes of netlink messages, whole and cut."""

from __future__ import annotations

import struct

import pytest

from mesh.node.netlink import attributes


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", {}),
        (attribute(1, b"abc"), {1: b"abc"}),
        (attribute(1, b"abc") + attribute(2, b""), {1: b"abc", 2: b""}),
        (attribute(0x8003, b"nested"), {3: b"nested"}),
        (attribute(1, b"abcd") + b"\x05", {1: b"abcd"}),
        (struct.pack("=HH", 0, 7) + attribute(1, b"x"), {}),  # a length that would never end
    ],
)
def test_attributes(body, expected):
    assert attributes(b"head" + body, 4) == expected
