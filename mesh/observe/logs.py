"""Logs: one JSON object per line on standard error, for machines; plain lines on a terminal, for people.

Fields: ts (RFC 3339, UTC), level, msg, component (the logger without "seine."), and whatever the call passed as
`extra` (pod, ns, peer, ...). Writing happens in a thread, because a full pipe must not stop the loop.
What a peer can provoke is said once per second at most (`Sparingly`): a log is a disk that a stranger can fill.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Any, TextIO

import msgspec

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MSG_CHARS_MAX = 8192  # a line must fit what collectors take (Docker cuts at 16 KiB)
_encode = msgspec.json.Encoder(enc_hook=str).encode


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "msg": record.getMessage()[:_MSG_CHARS_MAX],
            "component": record.name.removeprefix("seine."),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _KNOWN}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)[-_MSG_CHARS_MAX:]
        return _encode(fields).decode()


class PlainFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname).1s %(name)s  %(message)s", "%H:%M:%S")


class _Queued(QueueHandler):
    """Keeps the exception: the queue stays in this process, so nothing needs to be flattened for pickling."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record


@contextlib.contextmanager
def to_stream(level: str = "INFO", stream: TextIO | None = None) -> Iterator[None]:
    """Everything logged inside goes to `stream` (default: standard error)."""
    stream = sys.stderr if stream is None else stream
    writer = logging.StreamHandler(stream)
    writer.setFormatter(PlainFormatter() if stream.isatty() else JsonFormatter())
    queue: SimpleQueue[logging.LogRecord] = SimpleQueue()
    queued = _Queued(queue)
    listener = QueueListener(queue, writer)
    root = logging.getLogger()
    former = root.level
    root.addHandler(queued)
    root.setLevel(level.upper())
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(queued)
        root.setLevel(former)
        listener.stop()


class Sparingly:
    """Lets one message per key and second through, and remembers how many it kept back. Keys are reasons, not peers."""

    KEYS_MAX = 256

    def __init__(self, seconds: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._said: dict[Hashable, tuple[float, int]] = {}

    def __call__(self, key: Hashable) -> int | None:
        """None: keep silent. Else say it, and this many were kept back since it was last said."""
        now = self._clock()
        at, kept_back = self._said.get(key, (-self._seconds, 0))
        if now - at < self._seconds:
            self._said[key] = (at, kept_back + 1)
            return None
        if len(self._said) >= self.KEYS_MAX:
            self._said.clear()
        self._said[key] = (now, 0)
        return kept_back
