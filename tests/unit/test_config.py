import dataclasses
from pathlib import Path

import pytest

from mesh.config import AgentConfig, ConfigError, SourceConfig, from_environment


@pytest.mark.parametrize("kind", [AgentConfig, SourceConfig])
def test_every_setting_says_its_unit_and_reason(kind):
    for each in dataclasses.fields(kind):
        if each.name != "files":
            assert each.metadata["unit"], each.name
            assert len(each.metadata["why"]) > 10, each.name


def test_defaults_are_within_their_own_bounds_and_name_this_host():
    config = AgentConfig()
    assert config.node
    assert config.run_dir == Path("/run/seine") / config.node


def test_the_environment_is_read_and_the_command_line_wins():
    environment = {"SEINE_WORKERS": "4", "SEINE_NODE": "alpha", "SEINE_DRAIN_SECONDS": "1.5", "SEINE_SOURCE": "/x"}
    config = from_environment(AgentConfig, environment, node="beta", workers=None)
    assert (config.workers, config.node, config.drain_seconds, config.source) == (4, "beta", 1.5, Path("/x"))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SEINE_WORKERS": "two"}, "SEINE_WORKERS is 'two'; it must be a whole number (processes)"),
        ({"SEINE_WORKERS": "0"}, "workers is 0; it must be at least 1 and at most 32 processes"),
        ({"SEINE_WORKERS": "33"}, "workers is 33"),
        ({"SEINE_DRAIN_SECONDS": "nan"}, "drain_seconds is nan"),
        ({"SEINE_PROVE_SECONDS": "soon"}, "it must be a number (s)"),
        ({"SEINE_NODE": "../up"}, "node '../up'"),
        ({"SEINE_NODE": "x" * 64}, "at most 63"),
        ({"SEINE_NODE": "a\n"}, "node 'a\\n'"),
    ],
)
def test_a_bad_setting_is_a_sentence_that_names_it(environment, words):
    with pytest.raises(ConfigError) as caught:
        from_environment(AgentConfig, environment)
    assert words in str(caught.value)


def test_a_setting_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        AgentConfig().workers = 3  # type: ignore[misc]
