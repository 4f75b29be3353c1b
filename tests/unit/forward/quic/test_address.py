"""Addresses as text: one spelling each, and nothing else is one."""

import pytest

from mesh.forward.quic.address import format_address, parse_address


@pytest.mark.parametrize("text", ["10.2.0.1:80", "[fd00::1]:65535", "0.0.0.0:1"])
def test_what_is_read_is_written_alike(text: str) -> None:
    parsed = parse_address(text)
    assert parsed is not None
    assert format_address(*parsed) == text


def test_addresses_have_one_spelling() -> None:
    assert parse_address("[FD00:0::1]:80") == ("fd00::1", 80)
    assert parse_address("[::ffff:10.2.0.1]:80") is None


@pytest.mark.parametrize(
    "text", ["", "10.2.0.1", "10.2.0.1:", "10.2.0.1:0", "10.2.0.1:65536", "fd00::1:80", "[10.2.0.1]:80"]
)
def test_what_is_none(text: str) -> None:
    assert parse_address(text) is None
