"""Seine's kernel short-cut alone: both pods enrolled and short-cut, the server's port exempt from the proxy.

The client calls the pod's address, so that no proxy is in the path; the server's own counter is the proof.
"""

from __future__ import annotations

from tests.bench.peers.seine_shortcut.peer import SeineShortcut


class Kernel(SeineShortcut):
    def skipped(self) -> tuple[int, ...]:
        return (self.place.app.port,)

    def address(self) -> tuple[str, int]:
        return self.place.server.ip, self.place.app.port

    def carried(self) -> int:
        return self.place.app.carried()
