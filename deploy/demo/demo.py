"""`./dev demo`: four pods on this machine, real programs in them, and Seine between them.

Live on a terminal until Ctrl-C; without one a line now and then; `--once`: ten seconds, then what all witnesses say,
and the table as JSON on the last line. Exit status 0 only if they agree that everything succeeded, was captured and
was balanced, and nothing is left behind. An interrupt at any moment removes everything.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import deque
from dataclasses import replace
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live

from deploy.demo import shop as shops
from deploy.demo.progress import say, step
from deploy.demo.shop import Client, DemoMesh, Programs, Shop
from deploy.demo.verdict import Facts, compare
from deploy.demo.view import Picture
from deploy.demo.witness import HealthChecks, NginxLog, PostgresLog
from mesh.cli import client as agent
from mesh.cli import report
from mesh.cli.report import Check, Result
from mesh.observe import status
from mesh.observe.rates import rates
from mesh.observe.status import StatusDocument
from tests.kit.seine import Samples

ONCE_SECONDS = 10.0
WINDOW_SECONDS = 5.0  # of the live rates: steady enough to read, short enough to follow
REFRESH_SECONDS = 0.5
LINE_SECONDS = 2.0  # without a terminal
SETTLE_SECONDS = 3.0  # logs and counters are written a moment after an answer has left
PLAIN_COLUMNS = 100
INTERRUPTED = 130  # as a shell says it


class Demo:
    """Everything running. Facts are gathered from all witnesses at once."""

    def __init__(self, shop: Shop, programs: Programs, mesh: DemoMesh) -> None:
        self.mesh = mesh
        self._pods = shop.pods
        self._nginx = {name: NginxLog(nginx) for name, nginx in programs.web.items()}
        self._postgres = PostgresLog(programs.db)
        self.begun = self.document()
        self.checks = HealthChecks([shop.pods[name] for name in programs.web], shops.WEB_PORT)
        self.client = Client(shop)
        shop.at_end(self.client.process.send, signal.SIGKILL)  # before the mesh goes: it could only wait in vain
        self.checks.start()
        self.ended = 0.0

    def document(self) -> StatusDocument:
        return status.decode(agent.ask(self.mesh.run_dir, "/status"))

    def _connections(self) -> Samples:
        query = {"name[]": ["seine_connections_total"]}
        return Samples(agent.ask(self.mesh.run_dir, "/metrics", query=query).decode())

    def facts(self, tally: dict[str, Any]) -> tuple[Facts, StatusDocument]:
        now, carried = self.document(), self._connections()
        if self.ended:  # rates are of the traffic's time, not of the time it takes to look
            now = msgspec.structs.replace(now, taken_at=self.ended)
        connections, statements = self._postgres.read()
        source, node = self._pods["client"], self._pods["client"].node.subnet
        facts = Facts(
            tally=tally,
            checked=dict(self.checks.good),
            check_failures=tuple(self.checks.failures),
            nginx={name: dict(log.read()) for name, log in self._nginx.items()},
            connections=dict(connections),
            statements=statements,
            table={service.name: service for service in rates(now, self.begun)},
            by_connect=int(carried.value("seine_connections_total", direction="outbound", source_workload=source.name)),
            by_lookup=int(carried.value("seine_connections_total", direction="inbound")),
            pods=now.pods,
            client=frozenset({source.ip, source.ip6}),
            node=frozenset({node.ip(1), node.ip6(1)}),
        )
        return facts, now

    def end_traffic(self) -> dict[str, Any]:
        self.ended = time.time()
        self.checks.stop()
        return self.client.finish()


def picture(facts: Facts, now: StatusDocument, demo: Demo) -> Picture:
    """Of the whole run."""
    return Picture(facts, now.taken_at - demo.begun.taken_at, now.workers)


class Window:
    """The documents of the last seconds."""

    def __init__(self, first: StatusDocument) -> None:
        self._documents = deque([first])

    def recent(self, now: StatusDocument, whole: Picture) -> Picture:
        self._documents.append(now)
        while len(self._documents) > 2 and now.taken_at - self._documents[1].taken_at >= WINDOW_SECONDS:
            self._documents.popleft()
        before = self._documents[0]
        moved = {service.name: service for service in rates(now, before)}
        return replace(whole, recent=moved, window=now.taken_at - before.taken_at, live=True)


# --- watching


def watch(demo: Demo, console: Console) -> None:
    """Until Ctrl-C, or until the terminal is gone."""
    window = Window(demo.begun)
    facts, now = demo.facts(demo.client.tally())
    shown = window.recent(now, picture(facts, now, demo))
    with Live(shown, console=console, auto_refresh=False, screen=True) as live:
        while console.is_terminal:
            time.sleep(REFRESH_SECONDS)
            try:
                facts, now = demo.facts(demo.client.tally())
                shown = window.recent(now, picture(facts, now, demo))
            except (agent.AgentDown, agent.AgentError) as error:
                shown = replace(shown, trouble=f"{error}; the workers serve on")
            live.update(shown, refresh=True)


def tell(demo: Demo, seconds: float | None) -> None:
    """A line now and then; for ever when `seconds` is None."""
    window = Window(demo.begun)
    end = time.monotonic() + seconds if seconds else float("inf")
    while (remaining := end - time.monotonic()) > 0:
        time.sleep(min(LINE_SECONDS, remaining))
        facts, now = demo.facts(demo.client.tally())
        shown = window.recent(now, picture(facts, now, demo))
        web, recent = facts.tally["web"], (shown.recent or {}).get("web")
        rate = recent.requests_per_second if recent else 0.0
        say(
            f"demo: {shown.seconds:4.0f} s: web {rate or 0.0:.0f} requests/s, the client got {web['good']:,} pages "
            f"and {facts.tally['db']['good']:,} query results"
        )


# --- concluding


def conclude(demo: Demo) -> tuple[Picture, list[Check]]:
    """End the traffic and hear all witnesses; those that write late get a moment."""
    with step("ending the traffic and hearing the witnesses"):
        tally = demo.end_traffic()
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            facts, now = demo.facts(tally)
            checks = list(compare(facts))
            if report.success(checks) or time.monotonic() > end:
                return picture(facts, now, demo), checks
            time.sleep(0.1)


def machine(shown: Picture, checks: list[Check]) -> str:
    """The table as one line of JSON."""
    facts = shown.facts
    document = {
        "demo": "once",
        "seconds": round(shown.seconds, 3),
        "services": [*facts.table.values()],
        "captured": {"connect": {"client": facts.by_connect}, "sk_lookup": facts.by_lookup, "iptables": 0},
        "client": facts.tally,
        "health_checks": facts.checked,
        "pods": {pod.name: pod.state for pod in facts.pods},
        "checks": len(checks),
        "failed": [f"{check.description}: {check.error}" for check in checks if check.result is Result.ERROR],
    }
    return msgspec.json.encode(document, enc_hook=str).decode()


# --- all of it


def start(shop: Shop) -> Demo:
    programs, mesh = Programs(shop), DemoMesh(shop)
    with step("making four pods: a network namespace and a cgroup each"):
        shop.build_pods()
    with step("starting nginx in web-fast and in web-slow"):
        programs.start_web()
    with step("starting PostgreSQL in db (the first time takes some seconds)"):
        programs.start_db()
    with step("starting the agent and two workers: hooks compiled and loaded"):
        shop.at_end(mesh.stop)
        mesh.start()
    with step("waiting until every pod is proven to be captured"):
        mesh.wait_captured(*shop.pods.values())
    say("demo: traffic begins: HTTP to web (10.96.0.10, port 80), PostgreSQL to db (10.96.0.20)")
    return Demo(shop, programs, mesh)


def perform(once: bool, console: Console) -> tuple[Picture, list[Check]]:
    with Shop() as shop:
        demo = start(shop)
        try:
            if once or not console.is_terminal:
                tell(demo, ONCE_SECONDS if once else None)
            else:
                watch(demo, console)
        except KeyboardInterrupt:
            if once:
                raise
            say("")
        return conclude(demo)


def run(once: bool) -> int:
    """The exit status."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_COLUMNS)
    with shops.claimed():
        if left := shops.left():
            with step(f"removing what a killed demo left ({len(left)} things)"):
                shops.clear()
        shown, checks = perform(once, console)
        left = shops.left()
    result = Result.ERROR if left else Result.SUCCESS
    checks.append(Check("afterwards", "nothing is left on this machine", result, ", ".join(left)))
    console.print("", shown, "", sep="\n")
    for line in report.lines(checks, colour=console.is_terminal):
        say(line)
    if once:
        say(machine(shown, checks))
    return 0 if report.success(checks) else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev demo", description="Four pods, real traffic, Seine between them.")
    parser.add_argument("--once", action="store_true", help="10 seconds, no terminal, JSON on the last line")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job begins with it ignored
    try:
        return run(arguments.once)
    except KeyboardInterrupt:
        say("demo: interrupted")
        return INTERRUPTED
    except (RuntimeError, OSError, TimeoutError, AssertionError, agent.AgentDown, agent.AgentError) as failure:
        say(f"demo: {failure}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
