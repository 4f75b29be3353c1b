"""What a process does for as long as it lives, side by side; knows nothing of what that is.

A duty that fails ends them all, loudly: half a process is worse than none. But for what is scarce at the moment
(descriptors, memory, room on a disk) a duty waits and begins again: that passes, and would not for a successor either.
A duty is therefore a function whose coroutine may be run again after any of its steps.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Awaitable, Callable, Sequence

log = logging.getLogger("seine")
SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC})
AGAIN_SECONDS = 1.0

Duty = Callable[[], Awaitable[None]]


async def run_until(stop: asyncio.Event, duties: Sequence[Duty]) -> None:
    """Run all duties until told to stop; raises what ended one."""
    tasks = [asyncio.ensure_future(lasting(duty)) for duty in duties]
    waiter = asyncio.ensure_future(stop.wait())
    try:
        done, _ = await asyncio.wait({*tasks, waiter}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*tasks, waiter):
            task.cancel()
        await asyncio.gather(*tasks, waiter, return_exceptions=True)


async def lasting(duty: Duty, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
    """Run one until it ends by itself, over times of scarcity; they are told once each."""
    told = 0
    while True:
        try:
            return await duty()
        except OSError as error:
            if error.errno not in SCARCE:
                raise
            if error.errno != told:
                log.error("%s; what cannot be done now is tried again every second", error)
            told = error.errno
        await sleep(AGAIN_SECONDS)
