"""What the generators say, read strictly: an error or a missing answer makes a turn worthless."""

from __future__ import annotations

import json

import pytest

from tests.bench.load import Load, LoadError, parse_h2load, parse_wrk

WRK = {
    "requests": 1000,
    "microseconds": 2_000_000,
    "p50": 10.0,
    "p99": 90.0,
    "errors": {"connect": 0, "read": 0, "write": 0, "status": 0, "timeout": 0},
}


def test_wrk_report() -> None:
    load = parse_wrk(f"Running 2s test\n  1 threads\n{json.dumps(WRK)}\n")
    assert load == Load(1000, 2.0, 10.0, 90.0)
    assert load.rate == 500


@pytest.mark.parametrize("kind", ["connect", "read", "write", "status", "timeout"])
def test_one_error_of_wrk_fails(kind: str) -> None:
    with pytest.raises(LoadError, match=kind):
        parse_wrk(json.dumps({**WRK, "errors": {kind: 1}}))


def test_wrk_without_an_answer_fails() -> None:
    with pytest.raises(LoadError, match="no answer"):
        parse_wrk(json.dumps({**WRK, "requests": 0}))


def test_h2load_log() -> None:
    log = "1000000\t200\t100\n1500000\t200\t300\n1250000\t200\t200\n1999600\t200\t400\n"
    assert parse_h2load(log, 4) == Load(4, 1.0, 300, 400)


@pytest.mark.parametrize(
    "log", ["1000000\t200\t100\n", "1000000\t200\t100\n1000100\t503\t100\n", "1\t200\t1\n2\t-1\t1\n"]
)
def test_h2load_with_a_missing_or_wrong_answer_fails(log: str) -> None:
    with pytest.raises(LoadError, match="1 of 2"):
        parse_h2load(log, 2)
