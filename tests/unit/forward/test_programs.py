"""What runs holds its lock, and a launcher without privilege gets only the locks that it is offered."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.forward import programs
from mesh.forward.programs import Program
from tests.kit.wait import eventually

UID = 65532


def as_uid(uid: int, look: Callable[[], bool]) -> bool:
    """What a process of that uid finds."""
    pid = os.fork()
    if pid == 0:
        os.setresuid(uid, uid, uid)
        os._exit(0 if look() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_lock_is_taken_once_and_free_when_its_holder_ends(tmp_path: Path) -> None:
    program = programs.worker(tmp_path, 3)
    assert not program.is_alive()
    lock = program.take()
    assert lock is not None
    assert program.is_alive()
    assert program.take() is None
    assert program.take_offered() is None
    os.close(lock)
    assert not program.is_alive()


def test_what_is_started_holds_the_lock_alone_and_as_long_as_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served.py").write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    program = Program("it", tmp_path / "it.lock", ("served",))
    lock = program.take()
    assert lock is not None
    with program.start(lock, os.getuid(), outlives_us=False) as process:
        assert program.is_alive()
        process.kill()
        eventually(lambda: not program.is_alive(), "the lock is free")


def test_a_start_that_fails_frees_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = programs.quic(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    lock = program.take()
    assert lock is not None
    with pytest.raises(FileNotFoundError):
        program.start(lock, os.getuid(), outlives_us=False)
    assert not program.is_alive()


def test_who_may_make_no_file_takes_what_is_offered_and_nothing_else() -> None:
    run_dir = Path(f"/tmp/seine-test-programs-{os.getpid()}")
    run_dir.mkdir(mode=0o711)
    program = programs.quic(run_dir)

    def takes() -> bool:
        return program.take_offered() is not None

    try:
        assert not as_uid(UID, takes)
        program.offer(UID)
        assert as_uid(UID, takes)
        program.offer(0)
        assert not as_uid(UID, takes)
    finally:
        program.lock.unlink(missing_ok=True)
        run_dir.rmdir()


def test_only_who_was_started_with_a_lock_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "signer.lock"
    assert not programs.holds(os.getpid(), lock)
    fd = programs.signer(tmp_path).take()
    assert fd is not None
    assert programs.holds(os.getpid(), lock)
    assert not programs.holds(1, lock)
    os.close(fd)
    assert not programs.holds(os.getpid(), lock)
