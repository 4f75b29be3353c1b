"""Structs of bpf/types.h as bytes, and numbers that are stated in two places."""

from __future__ import annotations

import pytest

from mesh import config
from mesh.capture._bpf import ffi, lib
from mesh.capture.objects import fit, pack, pack_address, text, unpack, words
from mesh.capture.pods import REASONS
from mesh.model import Direction


@pytest.mark.parametrize(
    ("address", "raw"),
    [("10.0.0.1", b"\0" * 10 + b"\xff\xff\x0a\0\0\1"), ("fd00::1", b"\xfd" + b"\0" * 14 + b"\1")],
)
def test_an_address_is_sixteen_bytes_in_network_order(address, raw):
    packed = pack_address(address, 80)
    assert packed == raw + b"\x50\0\0\0"
    assert text(unpack("address", packed).ip) == address


def test_a_mapped_address_is_its_ipv4():
    assert words("::ffff:10.0.0.1") == words("10.0.0.1")


def test_a_struct_of_an_older_map_is_filled_with_zeros():
    found = unpack("pod", pack("pod", netns=7, flags=3)[:12])
    assert (found.netns, found.flags, found.ip4) == (7, 3, 0)
    assert unpack("pod", pack("pod", netns=7) + b"more").netns == 7


def test_fit_cuts_and_fills():
    assert (fit(b"abcd", 2), fit(b"ab", 4)) == (b"ab", b"ab\0\0")


@pytest.mark.parametrize("struct", ["address", "note", "flow", "pod", "port_rule", "destination", "backend_key"])
def test_structs_have_no_hidden_padding(struct):
    """A key with padding never matches; the kernel compares all of its bytes."""
    kind = ffi.typeof(f"struct {struct}")
    assert sum(ffi.sizeof(field.type) for _, field in kind.fields) == ffi.sizeof(kind)


def test_numbers_stated_twice_agree():
    assert (lib.OUTBOUND_PORT, lib.INBOUND_PORT) == (config.OUTBOUND_PORT, config.INBOUND_PORT)
    assert lib.WORKERS_MAX == config.WORKERS_MAX
    assert (lib.OUTBOUND, lib.INBOUND) == (Direction.OUTBOUND, Direction.INBOUND)


def test_reasons_are_dense_and_fit():
    assert sorted(REASONS) == list(range(len(REASONS)))
    assert len(REASONS) <= lib.REASONS_MAX
    assert REASONS[lib.REASON_CAPTURED] == "captured"
