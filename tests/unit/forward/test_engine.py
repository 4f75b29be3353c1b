"""The engine's face: values converted both ways, names agreed upon on both sides. What it does: tests/engine."""

from __future__ import annotations

import itertools
import math

import pytest

from mesh.errors import Flag
from mesh.forward import engine
from mesh.model import Security


@pytest.mark.parametrize(
    ("text", "packed"),
    [
        ("10.0.0.1", bytes(10) + b"\xff\xff\x0a\x00\x00\x01"),
        ("0.0.0.0", bytes(10) + b"\xff\xff" + bytes(4)),
        ("fd00::1", b"\xfd" + bytes(14) + b"\x01"),
        ("::", bytes(16)),
    ],
)
def test_addresses_are_sixteen_bytes(text: str, packed: bytes) -> None:
    assert engine.pack_address(text) == packed
    assert engine.unpack_address(packed) == text


def test_a_mapped_address_is_the_ipv4_address() -> None:
    assert engine.unpack_address(engine.pack_address("::ffff:10.0.0.1")) == "10.0.0.1"


@pytest.mark.parametrize("text", ["", "10.0.0", "host", "10.0.0.1/8"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        engine.pack_address(text)


def test_the_flags_are_those_of_the_errors_in_their_order() -> None:
    assert engine.LAYOUT.flags == tuple(Flag)


def test_counters_have_names_that_metrics_can_have() -> None:
    assert len(set(engine.LAYOUT.counters)) == len(engine.LAYOUT.counters)
    assert all(name.replace("_", "a").isalnum() and name.islower() for name in engine.LAYOUT.counters)
    assert engine.LAYOUT.gauges < set(engine.LAYOUT.counters)


def test_buckets_grow_by_an_eighth_of_an_octave() -> None:
    bounds = engine.bucket_bounds_us()
    assert bounds[:16] == tuple(range(1, 17))
    assert bounds[-1] == 2**27  # 134 s
    assert len(bounds) == engine.LAYOUT.buckets - 1
    steps = [after / before for before, after in itertools.pairwise(bounds[15:])]
    assert max(steps) <= 9 / 8
    assert all(math.isclose(bounds[i + 8], 2 * bounds[i]) for i in range(15, len(bounds) - 8))


def test_the_default_limit_of_connections_leaves_descriptors() -> None:
    assert 0 < engine._default_max_connections() < (1 << 20)


def test_the_kinds_of_security_are_the_models() -> None:
    assert engine.LAYOUT.securities == tuple(Security)
