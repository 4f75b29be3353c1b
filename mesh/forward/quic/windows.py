"""How much a peer may send on a stream before its bytes are taken: flow control with a bound, pure.

Credit is given when the local side has taken bytes, not when they come: what waits is never more than the window. A
window begins small and doubles when it was the bottleneck (half of it was taken within two round trips, and nothing is
left waiting), out of a budget that the streams of one connection share: a reader that stalls keeps the window that its
past speed has earned, and all of them together never hold more than the budget beyond what each begins with.
Source: RFC 9000 section 4. aioquic doubles its windows by the offset alone, without an end.
"""

from __future__ import annotations


class Budget:
    """Bytes by which the windows of one connection may grow in all."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, count: int) -> bool:
        if count > self.left:
            return False
        self.left -= count
        return True

    def give(self, count: int) -> None:
        self.left += count


class Window:
    def __init__(self, budget: Budget, start: int, most: int) -> None:
        self.limit = start  # the offset up to which the peer may send
        self.size = start
        self.taken = 0
        self._budget, self._start, self._most = budget, start, most
        self._since: float | None = None  # when credit was last given

    def take(self, count: int, waiting: int, now: float, rtt: float) -> bool:
        """The local side took `count` bytes, `waiting` are left. True: the limit has moved, tell the peer."""
        self.taken += count
        if self.limit - self.taken > self.size // 2:
            return False
        quick = self._since is not None and now - self._since < 2 * rtt
        if quick and not waiting and 2 * self.size <= self._most and self._budget.take(self.size):
            self.size *= 2
        self._since = now
        self.limit = self.taken + self.size
        return True

    def close(self) -> None:
        """The stream is over: what it had grown by is there for others."""
        self._budget.give(self.size - self._start)
        self.size = self._start
