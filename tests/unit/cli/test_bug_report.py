"""What is in the archive, and what is not."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesh.cli import bug_report, client
from mesh.cli.bug_report import of_cluster, of_node, pack
from mesh.cli.kubectl import Kubectl, KubectlError, Object

Part = tuple[str, Callable[[], str]]


def texts(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        found = {each.name: archive.extractfile(each) for each in archive.getmembers()}
        return {name.removeprefix("seine-bug-report/"): file.read().decode() for name, file in found.items() if file}


def test_secrets_are_out_and_what_cannot_be_had_keeps_nothing_else_out(tmp_path: Path) -> None:
    def away() -> str:
        raise client.AgentDown("nothing answers")

    parts: list[Part] = [("a.txt", lambda: "token: abcdef\nname: web\n"), ("b.txt", away), ("c.txt", lambda: "c")]
    out = tmp_path / "report.tar.gz"
    assert pack(out, iter(parts)) == ["a.txt", "c.txt", "errors.txt"]
    assert texts(out) == {
        "a.txt": "token: [removed]\nname: web\n",
        "c.txt": "c",
        "errors.txt": "b.txt: nothing answers\n",
    }


def test_what_is_too_long_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bug_report, "FILE_BYTES_MAX", 4)
    found = texts_of(tmp_path, iter([("a.txt", lambda: "123456"), ("b.txt", lambda: "1234")]))
    assert (found["a.txt"], found["b.txt"]) == ("3456", "1234")
    assert found["errors.txt"] == "a.txt: of 6 bytes only the last 4 are here\n"


def test_of_a_node_without_an_agent_there_is_still_something(tmp_path: Path) -> None:
    names = [name for name, _ in of_node("nobody")]
    assert {"machine.txt", "status.json", "dump.json", "check.json", "proc-self-mountinfo.txt"} <= set(names)
    parts = ((name, read) for name, read in of_node("nobody") if name != "check.json")
    assert "status.json: nothing answers" in texts_of(tmp_path, parts)["errors.txt"]


def texts_of(tmp_path: Path, parts: Iterator[Part]) -> dict[str, str]:
    pack(tmp_path / "report.tar.gz", parts)
    return texts(tmp_path / "report.tar.gz")


class Cluster(Kubectl):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, ...]] = []

    def run(self, *arguments: str, text: str = "", seconds: float = 60.0) -> str:
        self.asked.append(arguments)
        if "exec" in arguments and "seine dump" in arguments:
            raise KubectlError("command terminated with exit code 1")
        return "said\n"

    def get(self, path: str) -> Object:
        agent = {"metadata": {"name": "agent-1", "labels": {"app.kubernetes.io/name": "seine-agent"}}, "status": {}}
        again = {"metadata": {"name": "worker-1"}, "status": {"containerStatuses": [{"restartCount": 2}]}}
        return {"items": [agent, again]}


def test_of_a_cluster_there_are_objects_logs_and_what_each_agent_knows_and_no_secret_is_asked_for(
    tmp_path: Path,
) -> None:
    found = Cluster()
    names = texts_of(tmp_path, of_cluster(found, "seine-system"))
    assert {"objects.yaml", "cluster.yaml", "pods/agent-1/status.json", "pods/worker-1/log-before.txt"} <= set(names)
    assert "pods/agent-1/log-before.txt" not in names
    assert names["errors.txt"] == "pods/agent-1/dump.json: command terminated with exit code 1\n"
    assert not [each for each in found.asked if "secret" in " ".join(each).lower()]
