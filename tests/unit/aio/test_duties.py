from __future__ import annotations

import asyncio
import errno
import logging

import pytest

from mesh.aio.duties import lasting, run_until


def test_all_go_on_until_told_to_stop() -> None:
    async def run() -> list[str]:
        stop, seen = asyncio.Event(), []

        async def endless() -> None:
            seen.append("endless")
            await asyncio.Event().wait()

        async def stopping() -> None:
            seen.append("stopping")
            stop.set()
            await asyncio.Event().wait()

        await run_until(stop, [endless, stopping])
        return seen

    assert asyncio.run(run()) == ["endless", "stopping"]


def test_one_that_fails_ends_them_all() -> None:
    async def run() -> None:
        ended = asyncio.Event()

        async def other() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async def failing() -> None:
            raise ValueError("on purpose")

        with pytest.raises(ValueError, match="on purpose"):
            await run_until(asyncio.Event(), [other, failing])
        assert ended.is_set()

    asyncio.run(run())


def test_what_is_scarce_is_waited_for_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    errors = [OSError(errno.EMFILE, "Too many open files")] * 3 + [OSError(errno.ENOSPC, "No space left on device")]
    slept: list[float] = []

    async def duty() -> None:
        if errors:
            raise errors.pop(0)

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    with caplog.at_level(logging.ERROR):
        asyncio.run(lasting(duty, sleep))
    assert slept == [1.0] * 4
    assert [record.getMessage()[:25] for record in caplog.records] == [
        "[Errno 24] Too many open ",
        "[Errno 28] No space left ",
    ]


def test_any_other_error_is_no_scarcity() -> None:
    async def duty() -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    with pytest.raises(PermissionError):
        asyncio.run(lasting(duty))
