"""Asks the agent of a node over its Unix socket."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

TIMEOUT_SECONDS = 30.0  # a scrape of a very large node takes some seconds


class AgentDown(Exception):
    """Nobody answers at the socket: a sentence says how we know."""


class AgentError(Exception):
    """The agent answered that it cannot: its own sentence."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def run_dir(node: str) -> Path:
    """Where the agent of that node name keeps its sockets; the name defaults as the agent's own does."""
    from mesh.config import AgentConfig, from_environment

    return from_environment(AgentConfig, node=node or None).run_dir


def ask(
    directory: Path, path: str, method: str = "GET", query: Mapping[str, list[str]] | None = None, timeout: float = 0.0
) -> bytes:
    """The body of a successful answer. Raises AgentDown or AgentError."""
    connection = _UnixConnection(directory / "admin.sock", timeout or TIMEOUT_SECONDS)
    target = f"{path}?{urlencode(query, doseq=True)}" if query else path
    try:
        connection.request(method, target)
        response = connection.getresponse()
        body = response.read()
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise AgentDown(f"nothing answers at {directory}/admin.sock") from error
    except PermissionError as error:
        raise AgentError(f"{directory}/admin.sock is for root only") from error
    except (OSError, http.client.HTTPException) as error:
        raise AgentError(f"the agent at {directory}/admin.sock does not answer: {error}") from error
    finally:
        connection.close()
    if response.status >= 400:
        raise AgentError(body.decode(errors="replace").strip())
    return body
