"""Time that only moves when told to, for code that takes its clock as an argument."""

from __future__ import annotations


class FakeClock:
    """Call it for the time in seconds; `advance` it."""

    def __init__(self, start: float = 1000.0) -> None:
        self.now = start

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        if seconds < 0:
            raise ValueError("time does not go back")
        self.now += seconds
        return self.now
