"""Power of two choices on peak EWMA, as cext/balance.c computes it; times in any one unit.

The estimate of a round trip rises at once with a slower answer and falls exponentially, towards zero while nothing is
measured, so that a slow endpoint is tried again. Cost = estimate * (pending + 1): what the next request would wait
for. Of two drawn endpoints the cheaper is taken, which avoids both the herd (all to the best) and the blind (any).
Defaults as Linkerd's: decay 10 s, and 1 s for an endpoint never used, so that it warms up rather than takes all.
Sources: Finagle's PeakEwma; Mitzenmacher, The Power of Two Choices, 2001.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

DECAY_SECONDS = 10.0
DEFAULT_RTT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is known of an endpoint; `stamp`: when `rtt` was right."""

    rtt: float = DEFAULT_RTT_SECONDS
    stamp: float = 0.0
    pending: int = 0

    def estimate(self, now: float, towards: float = 0.0, decay: float = DECAY_SECONDS) -> float:
        keep = math.exp(-max(0.0, now - self.stamp) / decay)
        return self.rtt * keep + towards * (1.0 - keep)

    def observe(self, rtt: float, now: float, decay: float = DECAY_SECONDS) -> Load:
        """After one answer that took `rtt`."""
        return replace(self, rtt=max(rtt, self.estimate(now, rtt, decay)), stamp=now)

    def cost(self, now: float, decay: float = DECAY_SECONDS) -> float:
        return self.estimate(now, decay=decay) * (self.pending + 1)


def pick(loads: Sequence[Load], now: float, below: Callable[[int], int], decay: float = DECAY_SECONDS) -> int:
    """An index of equally weighted loads, -1 for none; `below(n)` draws from 0..n-1. A tie goes to the first drawn."""
    if len(loads) < 2:
        return len(loads) - 1
    first = below(len(loads))
    second = below(len(loads) - 1)
    second += second >= first
    return second if loads[second].cost(now, decay) < loads[first].cost(now, decay) else first
