from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from mesh.cli import hooks


def test_pins_say_whether_hooks_are_loaded(tmp_path: Path) -> None:
    assert not hooks.pinned("n1", tmp_path)
    run = tmp_path / "run"
    assert hooks.sentence(run / "n1", tmp_path).startswith("agent is not running; hooks are not loaded")
    (tmp_path / "seine/n1/abc").mkdir(parents=True)
    assert hooks.pinned("n1", tmp_path)
    assert not hooks.pinned("n2", tmp_path)
    assert hooks.sentence(run / "n1", tmp_path).startswith("agent is not running; hooks are loaded")


def test_what_only_root_may_see_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", denied)
    assert hooks.pinned("n1", tmp_path) is None
    assert hooks.sentence(tmp_path / "n1", tmp_path).endswith("only root can see")


def test_whoever_forgot_the_name_is_told_which_agents_run(tmp_path: Path) -> None:
    for name in ("n1", "n2", "n3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "agent.lock").touch()
    with (tmp_path / "n2/agent.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert hooks.sentence(tmp_path / "n1", tmp_path).endswith(
            "; agents that run on this machine: n2 (ask for one with --node)"
        )


def test_an_agent_is_known_by_its_lock_not_by_its_file(tmp_path: Path) -> None:
    assert not hooks.agent_runs(tmp_path)
    with (tmp_path / "agent.lock").open("w") as lock:
        assert not hooks.agent_runs(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert hooks.agent_runs(tmp_path)
    assert not hooks.agent_runs(tmp_path)


def test_who_holds_the_lock_keeps_agents_away(tmp_path: Path) -> None:
    (tmp_path / "agent.lock").touch()
    with hooks.locked(tmp_path) as free:
        assert free
        assert hooks.agent_runs(tmp_path)
    assert not hooks.agent_runs(tmp_path)
