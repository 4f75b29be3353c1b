"""The operator's kubectl, as we ask it: a stand-in that says what it was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.cli.kubectl import Kubectl, KubectlError, NotFound


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only one in the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def stand_in(folder: Path, script: str) -> None:
    path = folder / "kubectl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_it_is_asked_with_the_operators_kubeconfig_and_context(folder: Path) -> None:
    stand_in(folder, 'echo "$@"')
    assert Kubectl().run("version") == "version\n"
    assert Kubectl("/a", "b").run("get", "pods") == "--kubeconfig=/a --context=b get pods\n"


def test_objects_come_and_go_as_json(folder: Path) -> None:
    stand_in(folder, 'test "$1 $2 $3" = "get --raw /api" && echo \'{"items": null}\'')
    assert Kubectl().items("/api") == []
    stand_in(folder, 'read line; test "$*" = "create --raw /api -f -" && echo "{\\"was\\": $line}"')
    assert Kubectl().post("/api", {"a": 1}) == {"was": {"a": 1}}


def test_an_object_is_asked_for_by_its_whole_kind_and_may_not_be_there(folder: Path) -> None:
    stand_in(folder, 'echo "{\\"asked\\": \\"$*\\"}"')
    policy = {"apiVersion": "seine.dev/v1alpha1", "kind": "AuthorizationPolicy"}
    found = Kubectl().live({**policy, "metadata": {"name": "a", "namespace": "b"}})
    assert found == {"asked": "get AuthorizationPolicy.v1alpha1.seine.dev a -n b -o json"}
    stand_in(folder, 'echo "Error from server (NotFound): namespaces \\"a\\" not found" >&2; exit 1')
    assert Kubectl().live({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}) is None
    with pytest.raises(NotFound):
        Kubectl().get("/api/v1/namespaces/a")


def test_what_it_complains_of_is_our_sentence(folder: Path) -> None:
    with pytest.raises(KubectlError, match="kubectl is not in the PATH"):
        Kubectl().run("version")
    stand_in(folder, "echo the connection was refused >&2; exit 1")
    with pytest.raises(KubectlError, match="the connection was refused"):
        Kubectl().run("version")
