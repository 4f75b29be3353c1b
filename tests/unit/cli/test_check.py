"""Which values `seine check --cluster` compares a cluster with."""

from __future__ import annotations

import pytest
import typer

from mesh.cli.check import cluster_checks
from mesh.cli.kubectl import Kubectl, NotFound, Object


class Empty(Kubectl):
    """A cluster without Seine."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def get(self, path: str) -> Object:
        self.asked.append(path)
        if path == "/version":
            return {"gitVersion": "v1.36.3"}
        if path.endswith(("/nodes", "/daemonsets")):
            return {"items": []}
        raise NotFound(path)


def test_where_nothing_is_installed_the_namespace_that_was_asked_for_is_named() -> None:
    kubectl = Empty()
    found = list(cluster_checks(kubectl, "elsewhere", pre=False))
    assert found[-1].description == "Seine is installed in elsewhere"
    assert not any("seine-system" in path for path in kubectl.asked)


def test_a_namespace_that_can_be_none_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        list(cluster_checks(Empty(), "Not A Name", pre=True))
    assert "namespace is 'Not A Name'; it must be" in capsys.readouterr().err
