"""Real datagrams on the loopback interface; the clock of memories is quick."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

logging.getLogger("quic").setLevel(logging.CRITICAL)  # as mesh/quic.py does
Run = Callable[[Coroutine[Any, Any, None]], None]
SCENARIO_SECONDS = 60


@pytest.fixture
def run() -> Run:
    """Runs one scenario on the loop that the process uses."""

    def run_one(scenario: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(SCENARIO_SECONDS):
                await scenario

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(bounded())

    return run_one


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of tenths of a second instead of ten."""
    monkeypatch.setattr("mesh.forward.quic.fallback.PAUSE_SECONDS", 0.2)
