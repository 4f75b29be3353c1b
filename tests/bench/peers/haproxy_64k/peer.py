"""HAProxy in TCP mode with buffers of 64 KiB instead of its default 16: no bar asks for it, but it is what an operator
who moves bulk would set, and it doubles the throughput."""

from __future__ import annotations

from tests.bench.peer import Mode
from tests.bench.peers.haproxy.peer import HAProxy


class HAProxy64k(HAProxy):
    modes = frozenset({Mode.TCP})
    configs = {Mode.TCP: "haproxy-tcp-64k.cfg"}
