from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mesh.cli import client
from tests.unit.cli.agent import agent


def test_answers_come_from_the_socket(tmp_path: Path) -> None:
    with agent(tmp_path, metrics=[(200, b"text")]) as asked:
        assert client.ask(tmp_path, "/metrics", query={"name[]": ["a", "b"]}) == b"text"
    assert asked == ["GET /metrics?name%5B%5D=a&name%5B%5D=b"]


def test_no_socket_and_a_dead_socket_are_the_same(tmp_path: Path) -> None:
    with pytest.raises(client.AgentDown):
        client.ask(tmp_path, "/status")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "admin.sock"))
    with pytest.raises(client.AgentDown):
        client.ask(tmp_path, "/status")


def test_the_agents_own_sentence_is_told(tmp_path: Path) -> None:
    with (
        agent(tmp_path, drain=[(404, b"no pod shop/web\n")]),
        pytest.raises(client.AgentError, match=r"^no pod shop/web$"),
    ):
        client.ask(tmp_path, "/drain", "POST")


def test_an_agent_that_says_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "admin.sock"))
        silent.listen()
        with pytest.raises(client.AgentError, match="does not answer"):
            client.ask(tmp_path, "/status")


def test_the_run_directory_follows_node_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.run_dir("n1") == Path("/run/seine/n1")
    monkeypatch.setenv("SEINE_RUN_ROOT", "/tmp/elsewhere")
    assert client.run_dir("n1") == Path("/tmp/elsewhere/n1")
