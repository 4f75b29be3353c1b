"""`seine check`: can Seine run here, and if it runs, is all well?"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from mesh.cli import client, hooks, judge
from mesh.cli.output import NodeOption, Output, OutputOption, encode
from mesh.cli.report import Check, Result, lines, machine, success

NAME = "check"
NODE = "seine-node"


def node_checks(node: str, agent_runs: bool) -> Iterator[Check]:
    """Every kernel feature tried, one by one. An empty name: not whether an agent could start under it."""
    from mesh.capture import preflight

    for probe in preflight.probes(node, agent_runs):
        failed = Result.ERROR if probe.required else Result.WARNING
        yield Check(NODE, probe.name, Result.SUCCESS if probe.ok else failed, "" if probe.ok else probe.hint)


def agent_checks(directory: Path) -> Iterator[Check]:
    from mesh.cli.status import fetch
    from mesh.observe.build import version

    try:
        document = fetch(directory)
    except client.AgentDown:
        yield judge.not_running(hooks.sentence(directory))
    except client.AgentError as error:
        yield Check(judge.AGENT, "agent answers", Result.ERROR, str(error))
    else:
        yield from judge.agent(document, version())
        if document.identity.certificates:
            yield from judge.identity(document)
        yield from judge.pods(document)


def run(
    pre: Annotated[bool, typer.Option("--pre", help="Only whether this node can run Seine.")] = False,
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Check this node, and the agent if one runs. Exit status 1 when a check failed; warnings do not fail."""
    directory = client.run_dir(node)
    runs = hooks.agent_runs(directory)
    found = node_checks("" if runs and not pre else directory.name, runs)
    checks = found if pre else chain(found, agent_checks(directory))
    if output is Output.TABLE:
        good = _print(lines(checks, sys.stdout.isatty()))
    else:
        known = list(checks)
        good = success(known)
        typer.echo(encode(machine(known), output), nl=False)
    raise typer.Exit(0 if good else 1)


def _print(found: Generator[str, None, bool]) -> bool:
    while True:
        try:
            typer.echo(next(found))
        except StopIteration as end:
            return bool(end.value)
