"""nginx (Debian's), explicit: the client calls it on its own loopback. Counter: stub_status. HTTP only."""

from __future__ import annotations

from tests.bench.app import stub_status
from tests.bench.peer import Mode, Peer, first_line

PORT, STATUS_PORT = 8080, 8406


class Nginx(Peer):
    modes = frozenset({Mode.HTTP})

    def start(self) -> None:
        config = self.configured("nginx.conf")
        self.running = self.place.client.popen(["nginx", "-p", str(self.place.directory), "-c", str(config)])
        self.place.client.wait_listening(PORT, STATUS_PORT)
        self._asked = 0

    def address(self) -> tuple[str, int]:
        return "127.0.0.1", PORT

    def carried(self) -> int:
        """stub_status counts the asking too."""
        self._asked += 1
        return stub_status(self.place.client, f"http://127.0.0.1:{STATUS_PORT}/") - self._asked

    def version(self) -> str:
        return first_line(["nginx", "-v"])
