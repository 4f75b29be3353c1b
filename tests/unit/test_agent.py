"""What the agent makes of its settings before there is a kernel, a worker or a source."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from mesh.agent import open_stats, welcome
from mesh.config import AgentConfig
from mesh.forward.engine import EngineConfig, stats_bytes


def test_the_settings_of_an_operator_who_sets_nothing_are_the_engines_own() -> None:
    limits = welcome(AgentConfig()).limits
    engine = EngineConfig()
    assert {name: getattr(limits, name) for name in limits.__struct_fields__} == {
        name: getattr(engine, name) for name in limits.__struct_fields__
    }


def test_what_an_operator_sets_reaches_the_workers_in_the_engines_units() -> None:
    told = welcome(
        AgentConfig(
            node="a",
            max_connections=500,
            connect_timeout_seconds=0.25,
            detect_timeout_seconds=2,
            idle_timeout_seconds=60,
            stream_idle_timeout_seconds=900,
        )
    )
    assert told.node == "a"
    limits = told.limits
    assert (limits.max_connections, limits.connect_timeout_ms, limits.detect_timeout_ms) == (500, 250, 2000)
    assert (limits.idle_timeout_ms, limits.stream_idle_ms) == (60_000, 900_000)


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
