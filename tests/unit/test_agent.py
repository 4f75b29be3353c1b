"""What the agent makes of its settings before there is a kernel, a worker or a source."""

from __future__ import annotations

from mesh.agent import welcome
from mesh.config import AgentConfig
from mesh.forward.engine import EngineConfig


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
