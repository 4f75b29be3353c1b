"""The applications behind the proxies: nginx for HTTP, a source of bytes for TCP. Both count what reaches them."""

from __future__ import annotations

import string
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from tests.kit.lab import Pod

HTTP_PORT, STATUS_PORT, STREAM_PORT = 80, 8081, 9000
CONNECTIONS, REQUESTS = 0, 2  # where stub_status has them
ROOT = Path(__file__).resolve().parents[2]


class _Config(string.Template):
    delimiter = "@"


@dataclass
class App(ABC):
    """`port` is what the client means. It lives as long as its pod."""

    pod: Pod
    port: int

    @abstractmethod
    def carried(self) -> int:
        """Requests or connections that reached it, by its own count."""

    @abstractmethod
    def connections(self) -> int:
        """Connections that reached it."""


class Nginx(App):
    def __init__(self, pod: Pod) -> None:
        super().__init__(pod, HTTP_PORT)
        text = _Config(Path(__file__).with_name("nginx.conf").read_text())
        config = pod.directory / "app.conf"
        config.write_text(text.substitute(directory=pod.directory, port=HTTP_PORT, status_port=STATUS_PORT))
        pod.popen(["nginx", "-p", str(pod.directory), "-c", str(config)])
        pod.wait_listening(HTTP_PORT, STATUS_PORT)
        self._asked = 0

    def carried(self) -> int:
        return self._counted(REQUESTS)

    def connections(self) -> int:
        return self._counted(CONNECTIONS)

    def _counted(self, field: int) -> int:
        """stub_status counts the asking too."""
        self._asked += 1
        return stub_status(self.pod, f"http://127.0.0.1:{STATUS_PORT}/", field) - self._asked


class Stream(App):
    """See stream.py."""

    def __init__(self, pod: Pod) -> None:
        super().__init__(pod, STREAM_PORT)
        self._count = pod.directory / "stream.count"
        pod.popen([sys.executable, str(ROOT / "tests/bench/stream.py"), "source", str(STREAM_PORT), str(self._count)])
        pod.wait_listening(STREAM_PORT)

    def carried(self) -> int:
        return self.connections()

    def connections(self) -> int:
        return int(self._count.read_text() or 0)


def stub_status(pod: Pod, url: str, field: int = REQUESTS) -> int:
    """One of the numbers of nginx's stub_status."""
    return int(pod.run(["curl", "-s", "--max-time", "5", url]).stdout.splitlines()[2].split()[field])
