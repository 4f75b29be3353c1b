"""When a kind is tried again: soon after a failure, later after many, each agent at a moment of its own. Pure.

A server that comes back must not meet all agents in one instant, hence a factor between a half and one and a half
(Linkerd and client-go jitter alike). What waiting alone does not mend, a forbidden kind or one that is not installed,
is asked for once a minute: cheap enough to go on for ever, soon enough for who has just mended it. But a server that is
starting forbids what it will allow when it has read its own rules, so at first it is asked as after any failure.
"""

from __future__ import annotations

FIRST_SECONDS, MOST_SECONDS = 0.5, 20.0
SLOW_SECONDS = 60.0
SLOW_FROM = 7  # failures in a row: after half a minute


def delay(failures: int, chance: float, slow: bool = False, asked: float = 0) -> float:
    """Seconds before the next try. `failures`: in a row, from 1 on; `chance`: from 0 to 1; `asked`: for which a server
    itself asks, as one does that has just started."""
    if asked:
        return min(asked, MOST_SECONDS) * (1 + chance)
    base = (
        SLOW_SECONDS
        if slow and failures >= SLOW_FROM
        else min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(failures - 1, 16))
    )
    return base * (0.5 + chance)
