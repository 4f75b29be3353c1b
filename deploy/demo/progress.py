"""What the demo says while it works: a line for each step, alive every two seconds, in the shape of `dev`.

Invariant: saying never stops the work. A terminal that went away (closed, or `| head`) must not keep the demo from
taking its pods down again.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

ALIVE_SECONDS = 2.0  # longer silence looks like a hang


def say(text: str, end: str = "\n") -> None:
    try:
        print(text, end=end, flush=True)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # for the rest of our life: also Python's own last flush


@contextmanager
def step(sentence: str) -> Iterator[None]:
    """`demo: sentence ... done (0.4 s)`, a dot for every two seconds."""
    begun, over = time.monotonic(), threading.Event()
    say(f"demo: {sentence} ", end="")
    dots = threading.Thread(target=_dots, args=(over,), daemon=True)
    dots.start()
    word = "failed"
    try:
        yield
        word = "done"
    except KeyboardInterrupt:
        word = "interrupted"
        raise
    finally:
        over.set()
        dots.join()
        say(f"{word} ({time.monotonic() - begun:.1f} s)")


def _dots(over: threading.Event) -> None:
    while not over.wait(ALIVE_SECONDS):
        say(".", end="")
