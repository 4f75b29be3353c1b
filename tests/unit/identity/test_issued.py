"""What an agent tells its successor of certificates."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mesh.identity.issued import Issued

WEB, MAIL = "spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/mail"
CHAIN = (b"certificate",)


def issued(directory: Path, complete: bool = True) -> Issued:
    return Issued(directory / "issued", lambda: complete)


def test_the_next_agent_knows_who_had_a_certificate(tmp_path: Path) -> None:
    first = issued(tmp_path)
    assert WEB not in first
    first.set_identities({WEB: CHAIN})
    assert WEB in first
    assert WEB in issued(tmp_path)
    assert MAIL not in issued(tmp_path)


def test_while_some_are_missing_nobody_is_forgotten(tmp_path: Path) -> None:
    issued(tmp_path).set_identities({WEB: CHAIN})
    issued(tmp_path, complete=False).set_identities({})
    issued(tmp_path, complete=False).set_identities({MAIL: CHAIN})
    third = issued(tmp_path)
    assert WEB in third
    assert MAIL in third
    third.set_identities({MAIL: CHAIN})
    assert WEB not in third
    assert WEB not in issued(tmp_path)


def test_a_damaged_file_is_told_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "issued").write_bytes(b"\xff\n")
    found = issued(tmp_path)
    assert "is not read" in caplog.text
    found.set_identities({WEB: CHAIN})
    assert WEB in issued(tmp_path)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = issued(tmp_path)
    (tmp_path / ".issued.new").mkdir()
    with caplog.at_level(logging.WARNING):
        found.set_identities({WEB: CHAIN})
    assert "the next agent needs its authority at once" in caplog.text
    assert WEB in found
