from __future__ import annotations

import fcntl
from pathlib import Path

from mesh.cli import hooks


def test_pins_say_whether_hooks_are_loaded(tmp_path: Path) -> None:
    assert not hooks.pinned("n1", tmp_path)
    assert hooks.sentence("n1", tmp_path).startswith("agent is not running; hooks are not loaded")
    (tmp_path / "seine/n1/abc").mkdir(parents=True)
    assert hooks.pinned("n1", tmp_path)
    assert not hooks.pinned("n2", tmp_path)
    assert hooks.sentence("n1", tmp_path).startswith("agent is not running; hooks are loaded")


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
