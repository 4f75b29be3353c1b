"""One agent per node, counters that go on, and a sentence for everything that cannot be had."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from mesh import rundir
from mesh.forward.engine import stats_bytes
from mesh.rundir import RunDirError, open_stats


def test_a_second_agent_of_a_node_is_told_who_was_first(tmp_path: Path) -> None:
    first = rundir.lock(tmp_path / "n1", "n1")
    with pytest.raises(RunDirError, match=r"another agent serves node 'n1' \(it holds .*/n1/agent.lock\)"):
        rundir.lock(tmp_path / "n1", "n1")
    os.close(first)
    os.close(rundir.lock(tmp_path / "n1", "n1"))


def test_counters_are_continued_and_those_of_another_version_left_to_whoever_has_them_mapped(tmp_path: Path) -> None:
    first = open_stats(tmp_path, 3)
    os.pwrite(first, b"counted", 100)
    assert os.pread(open_stats(tmp_path, 3), 7, 100) == b"counted"

    os.ftruncate(first, 8192)
    with mmap.mmap(first, 8192) as mapped:
        fresh = open_stats(tmp_path, 3)
        assert os.fstat(fresh).st_size == stats_bytes()
        assert os.pread(fresh, 7, 100) == bytes(7)
        assert mapped[100:107] == b"counted", "no page of it was taken away"


def test_a_run_directory_that_cannot_be_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirError, match=r"the run directory .*/file/n1 cannot be used: Not a directory"):
        rundir.lock(tmp_path / "file/n1", "n1")


def test_room_for_the_counters_is_taken_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rundir.reserve(tmp_path, 2)
    for worker in (0, 1):
        assert (tmp_path / f"worker-{worker}.stats").stat().st_blocks * 512 >= stats_bytes()

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunDirError, match=r"No space left on device \(the counters of each worker need [0-9]+ MiB\)"):
        rundir.reserve(tmp_path, 1)
