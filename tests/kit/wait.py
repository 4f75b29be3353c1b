"""Bounded waits for conditions: the only way a test waits. A sleep is never a synchronisation."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.01  # short enough to be invisible in a test's time, long enough to leave two cores alone


def eventually(condition: Callable[[], T], what: str, timeout: float = 5.0) -> T:
    """The first true value of `condition`; TimeoutError with `what` and the last value when it never comes."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout:g} s for {what}; last seen: {value!r}")
        time.sleep(POLL_S)
