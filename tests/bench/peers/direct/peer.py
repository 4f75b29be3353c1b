"""No mesh and no proxy: what the pods and the kernel do by themselves. The server's own counter is the proof."""

from __future__ import annotations

from tests.bench.peer import Peer


class Direct(Peer):
    def start(self) -> None:
        self._before = self.place.app.carried()

    def address(self) -> tuple[str, int]:
        return self.place.server.ip, self.place.app.port

    def carried(self) -> int:
        return self.place.app.carried() - self._before
