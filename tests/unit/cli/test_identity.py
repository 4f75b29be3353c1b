"""`seine identity` and what is below it, against a stand-in for the agent."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner, Result

from mesh.cli import hooks
from mesh.cli.app import app
from mesh.observe.status import DenialStatus, RotatedNode, Rotation
from tests.unit.cli.agent import agent
from tests.unit.observe.values import MAIL_ID, WEB_ID, identity

ROTATION = Rotation(
    step="switch",
    sentence="the new root bb11 issues once all of 2 nodes with certificates believe it; waiting for n2",
    nodes=(
        RotatedNode(node="n1", certificates=3, until=1e10, heard_at=1.0),
        RotatedNode(node="n2", obstacle="does not believe the new root bb11 yet"),
    ),
)


def seine(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["identity", *words])


def answer(value: object, status: int = 200) -> list[tuple[int, bytes]]:
    return [(status, msgspec.json.encode(value))]


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEINE_RUN_ROOT", str(tmp_path))
    monkeypatch.setenv("SEINE_NODE", "n1")
    monkeypatch.setattr(hooks, "BPFFS", tmp_path / "bpf")
    return tmp_path / "n1"


def test_identities_as_a_table(run_dir: Path) -> None:
    with agent(run_dir, identity=answer(identity())):
        result = seine()
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert lines[0].startswith("authority: directory /var/lib/seine/identity, answered ")
    assert f"{MAIL_ID} - - - - connection refused" in lines
    assert f"{WEB_ID} 4b1f 1970-01-01 00:18:00Z 0s aa00" in lines
    assert any(line.startswith("aa00 issuing 2001-09-09 01:46:40Z") for line in lines)
    assert "beef 1970-01-01 00:33:20Z stolen [laptop]" in lines


def test_identities_for_machines(run_dir: Path) -> None:
    with agent(run_dir, identity=answer(identity())):
        found = json.loads(seine("-o", "json").output)
    assert found["certificates"][1]["serial"] == "4b1f"
    assert found["denied"] == [{"what": "beef", "until": 2000.0, "reason": "stolen [laptop]"}]


def test_a_dry_run_changes_nothing_and_says_who_is_waited_for(run_dir: Path) -> None:
    with agent(run_dir, **{"identity/rotate": answer(ROTATION)}) as asked:
        dry, wet = seine("rotate", "--dry-run"), seine("rotate")
        machine = json.loads(seine("rotate", "--dry-run", "-o", "json").output)
    assert asked == ["GET /identity/rotate", "POST /identity/rotate", "GET /identity/rotate"]
    assert dry.output == wet.output
    lines = [" ".join(line.split()) for line in dry.output.splitlines()]
    assert lines[0] == ROTATION.sentence
    assert "n2 0 - never no does not believe the new root bb11 yet" in lines
    assert machine["nodes"][1]["obstacle"] == "does not believe the new root bb11 yet"


@pytest.mark.parametrize(("given", "seconds"), [("90s", 90), ("30m", 1800), ("24h", 86400), ("1.5d", 129600)])
def test_a_denial_is_for_a_time_that_people_write(run_dir: Path, given: str, seconds: float) -> None:
    made = DenialStatus(what="beef", until=1e10)
    with agent(run_dir, **{"identity/deny": answer(made)}) as asked:
        result = seine("deny", "BE:EF", "--for", given, "--reason", "a stolen laptop")
    assert result.output == f"beef is denied for {given}; its tunnels end\n"
    assert asked == [f"POST /identity/deny?what=BE%3AEF&seconds={float(seconds)}&reason=a+stolen+laptop"]


def test_of_a_denied_identity_it_is_said_that_it_ends_within_a_node_too(run_dir: Path) -> None:
    made = DenialStatus(what="spiffe://x/ns/shop/sa/web", until=1e10)
    with agent(run_dir, **{"identity/deny": answer(made)}):
        said = seine("deny", made.what).output
    assert said == f"{made.what} is denied for 24h; its connections end, between nodes and within one\n"


@pytest.mark.parametrize("given", ["", "24", "h", "-1h", "24 h", "1w"])
def test_another_time_is_refused_before_anybody_is_asked(run_dir: Path, given: str) -> None:
    with agent(run_dir) as asked:
        result = seine("deny", "beef", "--for", given)
    assert (result.exit_code, asked) == (2, [])


def test_what_the_agent_refuses_is_told_in_its_words(run_dir: Path) -> None:
    with agent(run_dir, **{"identity/deny": [(409, b"'nobody' is neither\n")]}):
        result = seine("deny", "nobody")
    assert (result.exit_code, result.output) == (1, "seine: 'nobody' is neither\n")


def test_a_denial_is_taken_back_if_there_was_one(run_dir: Path) -> None:
    with agent(run_dir, **{"identity/allow": [*answer({"was_denied": True}), *answer({"was_denied": False})]}):
        first, second = seine("allow", "beef"), seine("allow", "beef")
    assert (first.exit_code, first.output) == (0, "beef is allowed again\n")
    assert (second.exit_code, second.output) == (1, "seine: beef was not denied\n")


def test_without_an_agent_there_is_nothing_to_show(run_dir: Path) -> None:
    assert seine().exit_code == 1
    assert seine("rotate").exit_code == 1
