"""What a peer is, where it is put, and how its folder is found.

A peer's folder holds `peer.py` with one subclass of Peer, and the peer's configuration as committed files with @{names}
filled in from its place. `--peers DIR` adds folders from elsewhere; the folder's name is the peer's name.
"""

from __future__ import annotations

import importlib.util
import inspect
import string
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.bench.app import App
from tests.bench.proc import tree
from tests.kit.lab import Pod
from tests.kit.spawn import Process

HERE = Path(__file__).parent / "peers"
THREADS = 2  # of every proxy: what Seine has by default


class Mode(StrEnum):
    """What is served: HTTP; bytes; both in one pod, to see what one does to the other; HTTP in several pods."""

    HTTP = "http"
    TCP = "tcp"
    MIXED = "mixed"
    MANY = "many"


@dataclass(frozen=True)
class Place:
    """Where a peer works. It lives in or around `client`, and what it carries ends at `app` in `server`."""

    peer: str  # its folder's name
    client: Pod
    apps: tuple[App, ...]  # one per server pod
    mode: Mode
    vip: str  # a Service address of its own that leads nowhere unless the peer makes it
    node: str  # unique name of this run's node
    web: App | None = None  # MIXED: the second one in the first server's pod
    threads: int = THREADS

    @property
    def app(self) -> App:
        return self.apps[0]

    @property
    def server(self) -> Pod:
        return self.app.pod

    @property
    def directory(self) -> Path:
        """Scratch, removed with the client pod."""
        return self.client.directory


class _Config(string.Template):
    delimiter = "@"  # nginx and shells use $ themselves


class Peer(ABC):
    """One proxy in one place. `start` returns when it carries; after `stop` it is gone and may be started again."""

    modes: frozenset[Mode] = frozenset({Mode.HTTP, Mode.TCP})

    def __init__(self, place: Place) -> None:
        self.place = place
        self.running: Process | None = None

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def address(self) -> tuple[str, int]:
        """What the client calls."""

    def addresses(self) -> list[tuple[str, int]]:
        """MANY: the same for every server pod."""
        return [self.address()]

    def web_address(self) -> tuple[str, int]:
        """MIXED: what the client calls for small requests."""
        raise NotImplementedError

    @abstractmethod
    def carried(self) -> int:
        """Requests (HTTP, MANY) or connections (TCP, MIXED) since start, by the peer's own counter."""

    def version(self) -> str:
        """As it tells itself; empty when there is nothing to tell."""
        return ""

    def processes(self) -> list[int]:
        """Everything that works or waits for this peer."""
        return tree(self.running.pid) if self.running else []

    def stop(self) -> None:
        if self.running:
            self.running.stop()
        self.running = None

    def configured(self, name: str, pod: Pod | None = None) -> Path:
        """A file of the peer's own folder with its @{names} filled in, for a program in that pod (the client's)."""
        place, folder = self.place, Path(inspect.getfile(type(self))).parent
        directory = (pod or place.client).directory
        host, port = self.address()
        text = _Config((folder / name).read_text()).substitute(
            directory=directory,
            pki=place.directory,
            threads=place.threads,
            host=host,
            port=port,
            server=place.server.ip,
            server_port=place.app.port,
            web_port=place.web.port if place.web else 0,
            vip=place.vip,
        )
        target = directory / name
        target.write_text(text)
        return target


def first_line(command: list[str]) -> str:
    """Of what a program says about its version, wherever it says it."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return (done.stdout + done.stderr).strip().splitlines()[0]


def folders(extra: Iterable[Path] = ()) -> dict[str, Path]:
    """Peer name -> folder. A folder given later wins, so that a peer can be measured against its own variant."""
    return {path.parent.name: path.parent for root in (HERE, *extra) for path in sorted(root.glob("*/peer.py"))}


def load(folder: Path) -> type[Peer]:
    """The one class that the folder's peer.py defines."""
    name = f"tests.bench.peers.{folder.name}.peer" if folder.parent == HERE else f"extra_peer_{folder.name}"
    module = sys.modules.get(name)
    if module is None:
        spec = importlib.util.spec_from_file_location(name, folder / "peer.py")
        if spec is None or spec.loader is None:
            raise ValueError(f"{folder}/peer.py cannot be imported")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    found = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Peer)]
    own = [kind for kind in found if kind.__module__ == name]
    if len(own) != 1:
        raise ValueError(f"{folder}/peer.py must define one Peer, not {len(own)}")
    return own[0]
