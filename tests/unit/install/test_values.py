"""`--set`: what is understood, and the sentence for what is not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from mesh.install.values import VERSION, BadValue, Values, chosen

PROJECT = Path(__file__).resolve().parents[3] / "pyproject.toml"


def test_what_is_installed_in_a_cluster_is_of_the_packages_version():
    assert tomllib.loads(PROJECT.read_text())["project"]["version"] == VERSION


def test_nothing_said_means_the_defaults():
    assert chosen([]) == Values()


def test_values_are_read_as_what_they_are():
    assert chosen(["workers=4", "monitors=true", "image=here/seine:2"], namespace="mesh") == Values(
        workers=4, monitors=True, image="here/seine:2", namespace="mesh"
    )


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("wrokers=4", "these names there are: .*workers"),
        ("workers", "must be NAME=VALUE"),
        ("workers=many", "workers is 'many'; it must be a whole number"),
        ("workers=0", "workers is 0; it must be 1 to 32"),
        ("monitors=yes", "monitors is 'yes'; it must be true or false"),
        ("mtls=maybe", "mtls is 'maybe'; it must be permissive or strict or disabled"),
        ("log_level=loud", "log_level is 'loud'"),
        ("cni_conf=net.d", "cni_conf is 'net.d'; it must be of the form"),
        ("cni_bin=/opt/../etc", "cni_bin is '/opt/../etc'"),
        ("pull_policy=Sometimes", "pull_policy is 'Sometimes'"),
    ],
)
def test_what_is_not_understood_is_refused_with_what_may_be_said(said, sentence):
    with pytest.raises(BadValue, match=sentence):
        chosen([said])
