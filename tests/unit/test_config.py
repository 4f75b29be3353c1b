import dataclasses
import re
from pathlib import Path

import pytest

from mesh import config
from mesh.config import AgentConfig, ApiConfig, ConfigError, SourceConfig, Switch, from_environment, strange_variables
from mesh.forward.engine import EngineConfig


@pytest.mark.parametrize("kind", [AgentConfig, ApiConfig, SourceConfig])
def test_every_setting_says_its_unit_and_reason(kind):
    for each in dataclasses.fields(kind):
        if each.name not in ("files", "api"):
            assert each.metadata["unit"], each.name
            assert len(each.metadata["why"]) > 10, each.name


def test_defaults_are_within_their_own_bounds_and_name_this_host():
    chosen = AgentConfig()
    assert chosen.node
    assert chosen.run_dir == Path("/run/seine") / chosen.node


def test_the_environment_is_read_and_the_command_line_wins():
    environment = {"SEINE_WORKERS": "4", "SEINE_NODE": "alpha", "SEINE_DRAIN_SECONDS": "1.5", "SEINE_SOURCE": "/x"}
    environment["SEINE_SHORTCUT"] = "disabled"
    chosen = from_environment(AgentConfig, environment, node="beta", workers=None)
    assert (chosen.workers, chosen.node, chosen.drain_seconds, chosen.source) == (4, "beta", 1.5, Path("/x"))
    assert chosen.shortcut is Switch.DISABLED


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SEINE_WORKERS": "two"}, "SEINE_WORKERS is 'two'; it must be a whole number (processes)"),
        ({"SEINE_WORKERS": "0"}, "workers is 0; it must be at least 1 and at most 32 processes"),
        ({"SEINE_WORKERS": "33"}, "workers is 33"),
        ({"SEINE_DRAIN_SECONDS": "nan"}, "drain_seconds is nan"),
        ({"SEINE_PROVE_SECONDS": "soon"}, "it must be a number (s)"),
        ({"SEINE_SHORTCUT": "off"}, "SEINE_SHORTCUT is 'off'; it must be a switch (enabled or disabled)"),
        ({"SEINE_NODE": "../up"}, "node '../up'"),
        ({"SEINE_MTLS": "on"}, "SEINE_MTLS is 'on'; it must be a mode (permissive, strict or disabled)"),
        ({"SEINE_TRUST_DOMAIN": "Example.org"}, "trust_domain 'Example.org'"),
        ({"SEINE_TRUST_DOMAIN": ""}, "trust_domain ''"),
        ({"SEINE_AUTHORITY_URL": "http://ca"}, "authority_url is 'http://ca'; it must be https://HOST"),
        ({"SEINE_AUTHORITY_URL": "https://"}, "authority_url"),
        ({"SEINE_AUTHORITY_URL": "https://ca/v1"}, "authority_url"),
        ({"SEINE_AUTHORITY_URL": "https://ca?x"}, "authority_url"),
        ({"SEINE_AUTHORITY_URL": "https://me@ca"}, "authority_url"),
        ({"SEINE_AUTHORITY_URL": "https://ca:0"}, "authority_url"),
        ({"SEINE_AUTHORITY_URL": "https://ca:x"}, "authority_url"),
        ({"SEINE_AUTHORITY_URL": "https://[::1"}, "authority_url"),
        ({"SEINE_PUBLISH": "here.yaml"}, "publish is 'here.yaml'; it must be an absolute path that ends in .yaml"),
        ({"SEINE_PUBLISH": "/etc/seine/here"}, "that ends in .yaml"),
        ({"SEINE_NODE": "x" * 64}, "at most 63"),
        ({"SEINE_NODE": "a\n"}, "node 'a\\n'"),
    ],
)
def test_a_bad_setting_is_a_sentence_that_names_it(environment, words):
    with pytest.raises(ConfigError) as caught:
        from_environment(AgentConfig, environment)
    assert words in str(caught.value)


def test_a_misspelt_variable_is_told_with_the_name_that_is_near():
    environment = {
        "SEINE_MTLS": "strict",
        "SEINE_MLTS": "strict",
        "SEINE_WORKER": "3",
        "SEINE_ZZZ": "1",
        "PATH": "/bin",
    }
    assert strange_variables(AgentConfig, environment) == [
        "SEINE_MLTS is no setting and has no effect; SEINE_MTLS is one",
        "SEINE_WORKER is no setting and has no effect; SEINE_WORKERS is one",
        "SEINE_ZZZ is no setting and has no effect; `seine agent --settings` lists them",
    ]
    settings = [each.name.upper() for each in dataclasses.fields(AgentConfig) if "unit" in each.metadata]
    assert strange_variables(AgentConfig, {f"SEINE_{name}": "" for name in settings}) == []


def test_what_kubernetes_says_of_services_is_no_misspelt_variable():
    links = {f"SEINE_CA_{what}": "x" for what in ("SERVICE_HOST", "SERVICE_PORT_HTTPS", "PORT", "PORT_443_TCP_ADDR")}
    assert strange_variables(AgentConfig, links) == []
    (told,) = strange_variables(AgentConfig, links | {"SEINE_CA_POST": "x"})
    assert told.startswith("SEINE_CA_POST is no setting")


@pytest.mark.parametrize("url", ["https://ca", "https://ca/", "https://ca.mesh:15012", "https://[fd00::1]:15012"])
def test_an_authority_is_a_host_and_perhaps_a_port(url):
    assert AgentConfig(authority_url=url).authority_url == url


def test_a_setting_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        AgentConfig().workers = 3  # type: ignore[misc]


def test_the_kernels_programs_state_the_same_ports():
    source = (Path(__file__).resolve().parents[2] / "bpf/types.h").read_text()
    for name in ("OUTBOUND_PORT", "INBOUND_PORT"):
        (number,) = re.findall(rf"\b{name} = (\d+)", source)
        assert int(number) == getattr(config, name)


def test_the_engine_states_the_same_ports():
    assert EngineConfig().outbound_port == config.OUTBOUND_PORT
    assert EngineConfig().inbound_port == config.INBOUND_PORT
    assert EngineConfig().canary_port == config.CANARY_PORT
