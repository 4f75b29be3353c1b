"""No mesh and no proxy: what the pods and the kernel do by themselves. The server's own counter is the proof."""

from __future__ import annotations

from tests.bench.peer import Mode, Peer


class Direct(Peer):
    modes = frozenset(Mode)

    def start(self) -> None:
        self._before = self._counted()

    def address(self) -> tuple[str, int]:
        return self.place.server.ip, self.place.app.port

    def addresses(self) -> list[tuple[str, int]]:
        return [(app.pod.ip, app.port) for app in self.place.apps]

    def web_address(self) -> tuple[str, int]:
        assert self.place.web is not None
        return self.place.server.ip, self.place.web.port

    def carried(self) -> int:
        return self._counted() - self._before

    def _counted(self) -> int:
        """Of small requests beside bytes nginx counts the connections, too, if it is asked for them."""
        own = sum(app.carried() for app in self.place.apps)
        return own + self.place.web.connections() if self.place.web else own
