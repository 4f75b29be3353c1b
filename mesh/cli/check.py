"""`seine check`: can Seine run here, and if it runs, is all well?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from mesh.cli import client, hooks, judge
from mesh.cli.output import NodeOption, Output, OutputOption, encode
from mesh.cli.report import Check, Result, lines, machine, success

NAME = "check"
NODE = "seine-node"


def node_checks() -> Iterator[Check]:
    """Every kernel feature tried, one by one."""
    from mesh.capture import preflight

    for probe in preflight.probes():
        yield Check(NODE, probe.name, Result.SUCCESS if probe.ok else Result.ERROR, "" if probe.ok else probe.hint)


def agent_checks(node: str) -> Iterator[Check]:
    from mesh.cli.status import fetch
    from mesh.observe.build import version

    directory = client.run_dir(node)
    try:
        document = fetch(directory)
    except client.AgentDown:
        yield judge.not_running(hooks.sentence(directory.name))
    except client.AgentError as error:
        yield Check(judge.AGENT, "agent answers", Result.ERROR, str(error))
    else:
        yield from judge.agent(document, version())
        yield from judge.pods(document)


def run(
    pre: Annotated[bool, typer.Option("--pre", help="Only whether this node can run Seine.")] = False,
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Check this node, and the agent if one runs. Exit status 1 when a check failed; warnings do not fail."""
    checks = [*node_checks(), *([] if pre else agent_checks(node))]
    if output is Output.TABLE:
        typer.echo("\n".join(lines(checks, sys.stdout.isatty())))
    else:
        typer.echo(encode(machine(checks), output), nl=False)
    raise typer.Exit(0 if success(checks) else 1)
