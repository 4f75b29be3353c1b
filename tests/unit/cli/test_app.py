"""The commands as people type them, against a stand-in for the agent."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from mesh.capture import KernelError
from mesh.capture.trials import Probe
from mesh.cli import check, drain, hooks, version
from mesh.cli.app import app
from mesh.cli.report import Check
from mesh.cli.report import Result as CheckResult
from mesh.config import AgentConfig
from mesh.model import Authorization, AuthorizationPolicy
from mesh.observe.status import PodAuthorization, StatusDocument, WorkerStatus, encode
from tests.kit.builders import policy, rule
from tests.unit.cli.agent import agent
from tests.unit.observe.values import document, service


def seine(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, words)


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEINE_RUN_ROOT", str(tmp_path))
    monkeypatch.setenv("SEINE_NODE", "n1")
    monkeypatch.setattr(hooks, "BPFFS", tmp_path / "bpf")
    return tmp_path / "n1"


def documents(*found: StatusDocument) -> list[tuple[int, bytes]]:
    return [(200, encode(each)) for each in found]


BEFORE = document(taken_at=998.0, services=(service(requests=0, failures=0, histogram=()),))
NOW = document(services=(service(requests=100, failures=0),))


def test_status_as_a_table(run_dir: Path) -> None:
    with agent(run_dir, status=documents(BEFORE, NOW)):
        result = seine("status", "--window", "0.01")
    assert result.exit_code == 0, result.output
    assert "client-0  captured" in result.output
    assert " 50.0  100.00%" in result.output


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_status_for_machines(run_dir: Path, form: str) -> None:
    with agent(run_dir, status=documents(BEFORE, NOW)):
        result = seine("status", "--window", "0.01", "-o", form)
    if form == "json":
        found = json.loads(result.output)
        assert found["rates"][0]["requests_per_second"] == 50
        assert found["status"]["node"] == "n1"
        assert found["running"] is True
    else:
        assert "requests_per_second: 50.0" in result.output


def test_status_without_an_agent_says_what_it_can() -> None:
    result = seine("status")
    assert (result.exit_code, result.output) == (
        1,
        "seine: agent is not running; hooks are not loaded: no pod of this node is in the mesh\n",
    )
    machine = seine("status", "-o", "json")
    assert machine.exit_code == 1
    assert json.loads(machine.output)["running"] is False


def test_every_setting_of_the_agent_can_be_read_with_its_reason() -> None:
    result = seine("agent", "--settings")
    assert result.exit_code == 0
    for each in fields(AgentConfig):
        if "unit" in each.metadata:
            (line,) = [line for line in result.output.splitlines() if line.startswith(f"SEINE_{each.name.upper()} ")]
            assert each.metadata["why"] in line


@pytest.mark.parametrize("words", [("metrics",), ("dump",), ("drain", "web"), ("top",)])
def test_every_question_to_an_agent_that_is_not_there_fails_with_a_sentence(words: tuple[str, ...]) -> None:
    result = seine(*words)
    assert result.exit_code == 1
    assert result.output.startswith("seine: agent is not running; hooks are")


def test_metrics(run_dir: Path) -> None:
    with agent(run_dir, metrics=[(200, b"seine_worker_up 1.0\n")]) as asked:
        assert seine("metrics", "seine_worker_up").output == "seine_worker_up 1.0\n"
    assert asked == ["GET /metrics?name%5B%5D=seine_worker_up"]


def test_dump(run_dir: Path) -> None:
    with agent(run_dir, dump=[(200, b'{"pods":[1]}')]):
        assert json.loads(seine("dump").output) == {"pods": [1]}


def draining(**changes: object) -> tuple[int, bytes]:
    return 200, json.dumps({"total": 3, "handled": 0, "closed": 0, "seconds_left": 9.0, **changes}).encode()


@pytest.mark.parametrize("words", [("shop/web-1",), ("web-1", "-n", "shop")])
def test_drain_shows_how_far_it_is_and_what_came_of_it(
    run_dir: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LOOK_SECONDS", 0.01)
    answers = [draining(), draining(handled=1, closed=1), draining(handled=3, closed=2, finished=True)]
    with agent(run_dir, drain=answers) as asked:
        result = seine("drain", *words)
    assert result.stdout == "2 connections of shop/web-1 closed; 1 had ended by themselves\n"
    assert result.stderr == "closing 3 connections of shop/web-1: 0 done, 9 s left\n"
    question = "/drain?namespace=shop&pod=web-1"
    assert asked == [f"POST {question}", f"GET {question}", f"GET {question}"]


def test_drain_for_machines_is_one_document_at_the_end(run_dir: Path) -> None:
    with agent(run_dir, drain=[draining(total=0, finished=True)]):
        assert json.loads(seine("drain", "web-1", "-o", "json").stdout)["finished"] is True


def test_a_drain_that_could_not_go_on_fails_and_says_why(run_dir: Path) -> None:
    with agent(run_dir, drain=[draining(handled=1, closed=1, finished=True, detail="the kernel cannot")]):
        result = seine("drain", "shop/web-1")
    assert (result.exit_code, result.stdout) == (1, "1 connection of shop/web-1 closed\n")
    assert result.stderr == "seine: the kernel cannot\n"


def test_version(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert version.NAME == "version"
    monkeypatch.setattr("mesh.observe.build.version", lambda: "1.2.3")
    assert seine("version", "--short").output == "1.2.3\n"
    assert seine("version").output == "Client version: 1.2.3\nAgent version: unavailable\n"
    with agent(run_dir, status=documents(NOW)):
        assert json.loads(seine("version", "-o", "json").output) == {"client": "1.2.3", "agent": "0.1.0"}


def node(_: str, __: bool) -> Iterator[Check]:
    yield Check("seine-node", "kernel is new enough")


def test_check_before_installing_asks_the_node_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "node_checks", node)
    result = seine("check", "--pre")
    assert result.output == "seine-node\n----------\n√ kernel is new enough\n\nStatus check results are √\n"
    assert result.exit_code == 0


def test_check_of_a_bare_node_warns_that_no_agent_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "node_checks", node)
    result = seine("check")
    assert "‼ agent is running\n    agent is not running; hooks are not loaded" in result.output
    assert result.exit_code == 0


def test_check_fails_when_the_node_does(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Check("seine-node", "bpffs is mounted", CheckResult.ERROR, "nothing is mounted at /sys/fs/bpf")
    monkeypatch.setattr(check, "node_checks", lambda *_: iter([bad]))
    result = seine("check", "--pre", "-o", "json")
    assert result.exit_code == 1
    assert json.loads(result.output)["success"] is False


def test_check_of_a_running_agent(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "node_checks", node)
    with agent(run_dir, status=documents(document(workers=(WorkerStatus(worker=0, up=True),), pods=()))):
        assert seine("check").exit_code == 0
    with agent(run_dir, status=documents(NOW)):
        result = seine("check")
    assert "    down: worker 1" in result.output
    assert result.exit_code == 1


def test_check_says_what_each_probe_of_the_node_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def probes(node: str, agent_runs: bool) -> Iterator[Probe]:
        assert (node, agent_runs) == ("n1", False)
        yield Probe(name="good", ok=True)
        yield Probe(name="soft", ok=False, hint="mind it", required=False)
        yield Probe(name="hard", ok=False, hint="mend it")

    monkeypatch.setattr("mesh.capture.preflight.probes", probes)
    result = seine("check", "--pre")
    assert result.output.splitlines()[2:7] == ["√ good", "‼ soft", "    mind it", "× hard", "    mend it"]  # noqa: RUF001
    assert result.exit_code == 1


def test_clean_is_refused_while_the_agent_runs(run_dir: Path) -> None:
    run_dir.mkdir()
    with (run_dir / "agent.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = seine("clean")
    assert (result.exit_code, result.output) == (1, "seine: the agent of node 'n1' is running; end it first\n")
    assert run_dir.exists()


def test_clean_tells_what_it_removed(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir.mkdir()
    tries: list[list[str] | None] = [["detached connect4"], None]

    def clean(node: str, *_: Path) -> list[str]:
        assert node == "n1"
        if (found := tries.pop()) is None:
            raise KernelError("processes in it?")  # the helper of a dead agent is about to end
        return found

    monkeypatch.setattr("mesh.leave.clean", clean)
    monkeypatch.setattr("mesh.leave.pin_root", lambda: run_dir)
    monkeypatch.setattr("mesh.leave.end_workers", lambda _: [42])
    expected = f"detached connect4\nended worker process 42\nremoved {run_dir}\n"
    assert seine("clean").output == expected
    assert not run_dir.exists()


@pytest.mark.parametrize("address", ["15020", "host:port", "127.0.0.1:99999"])
def test_agent_refuses_an_address_it_cannot_read(address: str) -> None:
    result = seine("agent", "--metrics-address", address)
    assert (result.exit_code, result.output) == (2, f"seine: --metrics-address is {address!r}; it must be HOST:PORT\n")


def test_agent_refuses_a_node_name_it_cannot_use() -> None:
    result = seine("agent", "--node", "Not/Good")
    assert result.exit_code == 2
    assert "Not/Good" in result.output


def test_start_up_imports_nothing_heavy() -> None:
    """`seine status` is typed often: rich, the engine, netlink and bcc load only where they are needed."""
    code = "import mesh.cli.app, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {
        "bcc",
        "pyroute2",
        "uvloop",
        "prometheus_client",
        "rich.console",
        "mesh.agent",
        "mesh.capture",
        "yaml",
        "asyncio",
    }
    assert heavy & set(loaded) == set()


# --- authz


def authorization(*policies: AuthorizationPolicy, **fields: Any) -> list[tuple[int, bytes]]:
    said = Authorization(policies=policies)
    pod = {"namespace": "shop", "name": "web", "identity": "spiffe://td/ns/shop/sa/web", "trust_domain": "td"}
    return [(200, msgspec.json.encode(PodAuthorization(**{**pod, "authorization": said, **fields})))]


ADMIN = policy("admin", "DENY", rule(paths=["/admin*"]), namespace="shop")
CLIENT = policy("client", "ALLOW", rule(principals=["td/ns/shop/sa/client"]), rule(ip_blocks=["10.0.0.0/8"]))


def test_authz_lists_the_policies_that_are_about_a_pod(run_dir: Path) -> None:
    with agent(run_dir, authz=authorization(ADMIN, CLIENT, skip_inbound_ports=(22,))) as asked:
        result = seine("authz", "shop/web")
    assert (result.exit_code, asked) == (0, ["GET /authz?namespace=shop&pod=web"])
    assert result.output.splitlines() == [
        "shop/web (spiffe://td/ns/shop/sa/web)",
        "  DENY  shop/admin, 1 rule",
        "  ALLOW default/client, 2 rules",
        "  whom no DENY matches may call it if an ALLOW matches",
        "  note: while no worker lives nothing is enforced: its fail mode is open (seine.dev/fail)",
        "  note: nothing is enforced on ports that are not captured: 22",
    ]


@pytest.mark.parametrize(
    ("policies", "fields", "sentence"),
    [
        ((), {}, "whom no DENY matches may call it: there is no ALLOW"),
        ((), {"authorization": Authorization(default_deny=True)}, "nobody may call it"),
    ],
)
def test_authz_says_what_the_default_is(run_dir: Path, policies: Any, fields: Any, sentence: str) -> None:
    with agent(run_dir, authz=authorization(*policies, **fields)):
        assert sentence in seine("authz", "web").output


def test_authz_explains_a_call(run_dir: Path) -> None:
    with agent(run_dir, authz=authorization(ADMIN, CLIENT)):
        denied = seine("authz", "shop/web", "--from", "shop/client", "--port", "80", "--path", "/x/../admin?q=1")
        allowed = seine("authz", "shop/web", "--from", "10.1.2.3", "--path", "/", "--host", "[::1]")
        opaque = seine("authz", "shop/web", "--from", "shop/client")
    assert denied.exit_code == 1
    assert "denied by DENY shop/admin, rule 0\n  the path is judged, and forwarded, as /admin\n" in denied.output
    assert (
        "    rule 0 matches\n  ALLOW default/client\n    rule 0 matches\n    rule 1 does not match: address"
        in denied.output
    )
    assert (allowed.exit_code, "allowed by ALLOW default/client, rule 1" in allowed.output) == (0, True)
    assert "denied by DENY shop/admin" in opaque.output  # the path of what is not HTTP is not known


def test_authz_for_machines(run_dir: Path) -> None:
    with agent(run_dir, authz=authorization(ADMIN)):
        result = seine("authz", "shop/web", "--from", "shop/client", "--method", "PUT", "-o", "json")
    found = json.loads(result.output)
    assert found["asked"]["identity"] == "spiffe://td/ns/shop/sa/client"
    assert found["asked"]["request"] == {"method": "PUT", "host": "", "path": "/"}
    assert (found["explanation"]["allowed"], found["explanation"]["policies"][0]["policy"]) == (True, "shop/admin")


@pytest.mark.parametrize("words", [("--from", "client"), ("--from", "a/b/c"), ("--path", "admin"), ("--port", "70000")])
def test_authz_says_what_it_does_not_understand(run_dir: Path, words: tuple[str, ...]) -> None:
    with agent(run_dir, authz=authorization()):
        result = seine("authz", "web", *words)
    assert result.exit_code == 2
    assert words[0] in result.output


def test_authz_of_a_pod_that_is_not_here(run_dir: Path) -> None:
    with agent(run_dir, authz=[(404, b"there is no pod default/web in the mesh on this node\n")]):
        result = seine("authz", "web")
    assert (result.exit_code, result.output) == (1, "seine: there is no pod default/web in the mesh on this node\n")
    assert "agent is not running" in seine("authz", "web").output
