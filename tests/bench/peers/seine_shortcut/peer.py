"""Seine, with the kernel short-cut on for both pods: the two legs of a request skip the TCP/IP stack."""

from __future__ import annotations

from tests.bench.peers.seine.peer import Seine


class SeineShortcut(Seine):
    shortcut = "enabled"
