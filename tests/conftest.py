"""What every lane shares. Lack of privilege is a failure, not a skip: a green run means that the kernel was asked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.kit.leftovers import leftovers

ROOT = Path(__file__).resolve().parent.parent
PRIVILEGED = ("tests/kernel", "tests/e2e", "tests/cluster")


def pytest_configure(config: pytest.Config) -> None:
    if sys.prefix != str(ROOT / ".venv"):
        raise pytest.UsageError(f"these tests belong to {ROOT}/.venv, not to {sys.prefix}: run ./dev test")


def pytest_runtest_setup(item: pytest.Item) -> None:
    lane = item.path.relative_to(ROOT).as_posix()
    if lane.startswith(PRIVILEGED) and os.geteuid() != 0:
        pytest.fail("makes network namespaces and loads eBPF, so it needs root: run ./dev test", pytrace=False)


@pytest.fixture(scope="session", autouse=True)
def _nothing_left():
    """Whatever the tests of this process made (namespaces, links, cgroups, pins, processes) is gone at its end."""
    yield
    assert leftovers() == []
