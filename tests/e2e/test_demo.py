"""The demo as its users meet it: it tells the truth, ends at any moment, and leaves nothing behind."""

import dataclasses
import io
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from deploy.demo import shop
from deploy.demo.verdict import Facts, compare
from deploy.demo.view import Picture
from deploy.demo.witness import NginxLog
from mesh.cli import report
from mesh.cli.report import Result
from mesh.model import PodState
from mesh.observe.rates import ServiceRates, Share
from mesh.observe.status import PodStatus, WorkerStatus
from tests.kit import apps, spawn
from tests.kit.lab import Lab
from tests.kit.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "deploy.demo.demo"]  # as `dev` calls it
START_S = 40.0  # three on an idle machine; the first one of a checkout makes a database
END_S = 20.0
TURN_S = 100.0  # its names are fixed: test runs that share a machine take turns


@pytest.fixture(scope="module", autouse=True)
def alone():
    with socket.socket(socket.AF_UNIX) as turn:

        def taken():
            try:
                turn.bind("\0seine-demo-test")
            except OSError:
                return False
            return True

        eventually(taken, "another test run to be done with the demo", TURN_S)
        yield
        shop.sweep()


@contextmanager
def running(tmp_path, *arguments, **streams):
    """A demo; its output is in tmp_path/output unless `streams` say otherwise."""
    with (tmp_path / "output").open("ab") as out:
        streams = {"stdout": out, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL} | streams
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=ROOT, start_new_session=True, preexec_fn=spawn.interruptible, **streams
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def said(tmp_path):
    return (tmp_path / "output").read_text(errors="replace")


def wait_said(tmp_path, words, times=1):
    eventually(lambda: said(tmp_path).count(words) >= times, f"the demo to say {words!r}", START_S)


# --- the real one


def test_once_all_witnesses_agree_and_the_last_line_is_the_table(tmp_path):
    with running(tmp_path, "--once") as demo:
        status = demo.wait(START_S + END_S)
    output = said(tmp_path)
    table = json.loads(output.splitlines()[-1])
    assert (status, table["failed"]) == (0, []), output
    assert "× " not in output  # noqa: RUF001  # as it is printed
    services = {service["name"]: service for service in table["services"]}
    assert services["web"]["requests"] > 1000
    assert services["web"]["success"] == 1.0
    assert services["web"]["p50_ms"] < services["web"]["p99_ms"]
    shares = {share["pod"]: share["fraction"] for share in services["web"]["shares"]}
    assert 0 < shares["web-slow"] < shares["web-fast"]
    assert services["db"]["connections"] == table["client"]["db"]["connections"] > 20
    assert table["captured"]["connect"]["client"] > 40
    assert shop.left() == []


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "starting PostgreSQL"),
        (signal.SIGTERM, "starting the agent"),
        (signal.SIGINT, "traffic begins"),
        (signal.SIGHUP, "requests/s"),
    ],
)
def test_interrupted_at_any_moment_nothing_is_left(tmp_path, number, moment):
    with running(tmp_path, "--once") as demo:
        wait_said(tmp_path, moment)
        demo.send_signal(number)
        assert demo.wait(END_S) == 130, said(tmp_path)
    assert said(tmp_path).endswith("demo: interrupted\n")
    assert shop.left() == []


def test_a_killed_demo_is_removed_by_the_next_one_and_by_clean(tmp_path):
    with running(tmp_path, "--once") as demo:
        wait_said(tmp_path, "traffic begins")
        demo.kill()
    assert shop.left() != []

    with running(tmp_path, "--once") as demo:
        wait_said(tmp_path, "removing what a killed demo left")
        wait_said(tmp_path, "traffic begins", times=2)
        demo.kill()
    assert any(line.startswith("killed") for line in shop.sweep()), "`dev clean` does the same"
    assert shop.left() == []


def test_a_second_demo_is_refused_and_the_first_is_left_alone(tmp_path):
    with running(tmp_path, "--once") as demo:
        wait_said(tmp_path, "starting PostgreSQL")
        second = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, timeout=END_S, check=False)
        assert second.returncode == 1
        assert f"a demo runs already (process {demo.pid})" in second.stdout
        assert f"process {demo.pid}" in shop.sweep()[0]
        wait_said(tmp_path, "traffic begins")
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(END_S) == 130
    assert shop.left() == []


@pytest.mark.parametrize("end", ["Ctrl-C", "closed"])
def test_on_a_terminal_a_live_table_until_ctrl_c_or_the_terminal_is_closed(tmp_path, end):
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    seen = bytearray()

    def shows(words):
        try:
            seen.extend(os.read(ours, 65536))
        except OSError:  # nothing to read now, or never again
            pass
        return words in seen

    size = {"COLUMNS": "100", "LINES": "40", "TERM": "xterm"}
    with running(tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=os.environ | size) as demo:
        os.close(theirs)
        eventually(lambda: shows(b"look inside"), "the live table", START_S)
        before = len(seen)
        eventually(lambda: shows(b"web-fast") and len(seen) > before, "the table to move")
        if end == "Ctrl-C":
            demo.send_signal(signal.SIGINT)
            eventually(lambda: shows(b"nothing is left on this machine"), "the witnesses", END_S)
        os.close(ours)
        demo.wait(END_S)
    assert shop.left() == []


def test_a_log_that_is_begun_anew_loses_no_request(tmp_path):
    with Lab("tail") as lab:
        pod = lab.pod("web")
        nginx = apps.Nginx(pod, 8080)
        log = NginxLog(nginx, bytes_max=1000)

        def is_whole(asked: int) -> bool:
            return sum(log.read().values()) == asked

        asked = 35
        for number in range(1, asked + 1):
            assert apps.curl(pod, f"http://{pod.ip}:8080/").status == 200
            if number % 7 == 0:
                eventually(partial(is_whole, number), f"{number} requests in the log")
        assert len(nginx.requests()) < asked, "it was begun anew"


# --- lies


def web(**changes):
    shares = (Share("shop", "web-fast", 0.8, 85, 0), Share("shop", "web-slow", 0.2, 25, 0))
    numbers = {"requests": 110, "failures": 0, "connections": 14, "open": 0, "requests_per_second": 11.0}
    numbers |= {"success": 1.0, "p50_ms": 4.5, "p95_ms": 17.1, "p99_ms": 20.2}
    return ServiceRates(**{"namespace": "shop", "name": "web", "shares": shares, **numbers, **changes})


def db(**changes):
    numbers = {"requests": 0, "failures": 0, "connections": 5, "open": 0}
    shares = (Share("shop", "db", 1.0, 0, 5),)
    return ServiceRates(**{"namespace": "shop", "name": "db", "shares": shares, **numbers, **changes})


def client_pod(state, **kernel):
    return (PodStatus(namespace="shop", name="client", state=state, kernel=kernel),)


def tally(**changes):
    told = {"asked": 100, "good": 100, "connections": 4, "replicas": {"web-fast": 80, "web-slow": 20}}
    return {"web": told | changes, "db": {"asked": 30, "good": 30, "connections": 5}, "errors": []}


TRUTH = Facts(
    tally=tally(),
    checked={"web-fast": 5, "web-slow": 5},
    check_failures=(),
    nginx={
        "web-fast": {("10.0.0.1", 200): 50, ("fd00::1", 200): 30, ("10.0.0.9", 200): 5},
        "web-slow": {("10.0.0.1", 200): 20, ("10.0.0.9", 200): 5},
    },
    connections={"10.0.0.1": 5},
    statements=30,
    table={"web": web(), "db": db()},
    by_connect=9,
    by_lookup=10,
    pods=client_pod(PodState.CAPTURED, captured=11, direct_unknown=0),
    client=frozenset({"10.0.0.1", "fd00::1"}),
    node=frozenset({"10.0.0.9"}),
)


def bad(facts):
    return [check.description for check in compare(facts) if check.result is Result.ERROR]


def test_the_truth_is_believed_also_when_a_count_is_one_late():
    assert bad(TRUTH) == []
    assert report.success(compare(TRUTH))
    late = dataclasses.replace(TRUTH, by_connect=8, table={"web": web(requests=109, connections=13), "db": db()})
    assert bad(late) == []


LIES = {
    "a failed request": ({"tally": tally(asked=101)}, "to web over"),
    "no request at all": ({"tally": tally(asked=0, good=0, replicas={})}, "to web over"),
    "a failed health check": ({"check_failures": ("web-slow: TimeoutError",)}, "health checks by the node"),
    "a request nginx never saw": ({"tally": tally(asked=101, good=101, replicas={"web-fast": 81})}, "web-fast: nginx"),
    "an error nginx gave": ({"nginx": {**TRUTH.nginx, "web-slow": {("10.0.0.1", 502): 25}}}, "web-slow: nginx"),
    "a stranger": ({"nginx": {**TRUTH.nginx, "web-slow": {("127.0.0.1", 200): 25}}}, "web-slow: nginx"),
    "a query PostgreSQL never saw": ({"statements": 29}, "PostgreSQL saw"),
    "a masked client": ({"connections": {"127.0.0.1": 5}}, "PostgreSQL saw"),
    "two requests too many": ({"table": {"web": web(requests=112), "db": db()}}, "web: 112 requests"),
    "a failure in the table": ({"table": {"web": web(failures=1), "db": db()}}, "1 failed"),
    "connections missed": ({"table": {"web": web(connections=12), "db": db()}}, "web: 12 connections"),
    "db connections missed": ({"table": {"web": web(), "db": db(connections=3)}}, "db: 3 connections"),
    "shares of nothing": ({"table": {"web": web(shares=()), "db": db()}}, "web-fast: 0 requests"),
    "a connection past the connect hook": ({"by_connect": 7}, "by the connect hook"),
    "a connection past sk_lookup": ({"by_lookup": 7}, "by sk_lookup"),
    "a leaking pod": ({"pods": client_pod(PodState.LEAKING)}, "client is captured"),
    "what the hooks let go": ({"pods": client_pod(PodState.CAPTURED, open_direct=1)}, "client is captured"),
    "the slower one preferred": ({"tally": tally(replicas={"web-fast": 20, "web-slow": 80})}, "both replicas"),
    "only one used": ({"tally": tally(replicas={"web-fast": 100})}, "both replicas"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_found_and_named(lie):
    changes, sentence = LIES[lie]
    found = bad(dataclasses.replace(TRUTH, **changes))
    assert any(sentence in description for description in found), found


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_the_screen_fits_the_terminal(columns):
    shown = Picture(
        dataclasses.replace(TRUTH, by_connect=123_456, table={"web": web(requests=12_345_678), "db": db()}),
        seconds=3723.0,
        workers=[WorkerStatus(worker=0, up=True), WorkerStatus(worker=1)],
        recent={"web": web(), "db": db()},
        window=5.0,
        live=True,
    )
    file = io.StringIO()
    Console(file=file, width=columns, legacy_windows=False).print(shown)
    text = file.getvalue()
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= columns
    for words in (
        "12,345,678",
        "100%",
        "4.5 ms",
        "17.1 ms",
        "20.2 ms",
        "web-slow",
        "80%",
        "captured",
        "1 of 2 workers",
    ):
        assert words in text
