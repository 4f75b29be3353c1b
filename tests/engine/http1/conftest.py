"""The parser's tests ask one program in C, built once per run and kind of build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.http1.judge import BUILDS, HERE, Message, build, judged

Judge = Callable[[list[Message]], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("http1")
    return {name: build(folder / name, HERE / "judge.c", flags) for name, flags in BUILDS.items()}


@pytest.fixture(scope="session")
def judge(programs: dict[str, Path]) -> Judge:
    """The parser as it is built for use."""
    return lambda messages: judged(programs["plain"], messages)
