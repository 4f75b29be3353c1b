"""When a kind is tried again: soon after a failure, later after many, each agent at a moment of its own. Pure.

A server that comes back must not meet all agents in one instant, hence a factor between a half and one and a half
(Linkerd and client-go jitter alike). What waiting alone does not mend, a forbidden kind or one that is not installed,
is asked for once a minute: cheap enough to go on for ever, soon enough for who has just mended it.
"""

from __future__ import annotations

FIRST_SECONDS, MOST_SECONDS = 0.5, 20.0
SLOW_SECONDS = 60.0


def delay(failures: int, chance: float, slow: bool = False) -> float:
    """Seconds before the next try. `failures`: in a row, from 1 on; `chance`: from 0 to 1."""
    base = SLOW_SECONDS if slow else min(MOST_SECONDS, FIRST_SECONDS * 2 ** min(failures - 1, 16))
    return base * (0.5 + chance)
