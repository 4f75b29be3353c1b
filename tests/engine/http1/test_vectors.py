"""Every case of tests/vectors/http1, by each kind of build: fed whole, per byte, randomly split, before an unreadable
page, and with more after it (agree.h)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.engine.http1.judge import BUILDS, Case, cases, judged

CASES = cases()


@pytest.fixture(scope="session", params=BUILDS)
def answers(request: pytest.FixtureRequest, programs: dict[str, Path]) -> dict[str, dict[str, Any]]:
    got = judged(programs[request.param], [case.message for case in CASES])
    return {case.name: answer for case, answer in zip(CASES, got, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case.name))
def test_case(case: Case, answers: dict[str, dict[str, Any]]) -> None:
    answer = answers[case.name]
    assert "disagree" not in answer
    if "accepted" in case.wanted:
        wanted = case.wanted["accepted"]
        assert {key: answer.get(key) for key in wanted} == wanted
    else:
        assert answer == case.wanted


def test_every_reason_has_a_case(programs: dict[str, Path]) -> None:
    listed = subprocess.run([programs["plain"], "reasons"], capture_output=True, text=True, check=True).stdout
    seen = {case.wanted["refused"] for case in CASES if "refused" in case.wanted}
    assert {line.split()[0] for line in listed.splitlines()} == seen


def test_names_of_cases_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
