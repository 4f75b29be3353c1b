"""Ends from outside, as KeyboardInterrupt in the main thread: Ctrl-C, an operator's SIGTERM, a terminal's SIGHUP.

Invariant: none is lost. Python swallows what a handler raises while a destructor or a fork's hooks run (seen: a demo
that got SIGTERM while it forked went on to its end); such an interrupt is sent again until it is heard.
What our parent wants ignored (nohup: SIGHUP) stays ignored.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_SECONDS = 0.02  # what swallowed it is over by then


class Interrupts:
    """Of one owner at a time: `take`, then `ignore` while what was made is removed, then `give_back`."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._handlers: dict[int, Any] = {}
        self._hook = sys.unraisablehook
        self._last: int = signal.SIGINT

    def take(self) -> None:
        for number in ENDINGS[1:]:  # of SIGINT Python itself makes a KeyboardInterrupt
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handle(number, self._raise)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._swallowed

    def ignore(self) -> None:
        for number in ENDINGS:
            self._handle(number, signal.SIG_IGN)

    def give_back(self) -> None:
        sys.unraisablehook = self._hook
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def _handle(self, number: int, handler: Any) -> None:
        """Python allows that to the main thread only."""
        if threading.current_thread() is threading.main_thread():
            former = signal.signal(number, handler)
            self._handlers.setdefault(number, former)

    def _raise(self, number: int, frame: object) -> None:
        """Never in a forked child: libraries fork, and end the child by SIGTERM."""
        if os.getpid() != self._owner:
            os._exit(128 + number)
        self._last = number
        raise KeyboardInterrupt

    def _swallowed(self, what: sys.UnraisableHookArgs, /) -> None:
        if not issubclass(what.exc_type, KeyboardInterrupt):
            self._hook(what)
        elif os.getpid() == self._owner:
            threading.Timer(AGAIN_SECONDS, self._again).start()

    def _again(self) -> None:
        """By a real signal: whatever the main thread waits for must end."""
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, self._last)
