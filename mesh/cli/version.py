"""`seine version`: of this command and of the agent that runs."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli.output import NodeOption, Output, OutputOption, encode

NAME = "version"


def _agent_version(node: str) -> str:
    from mesh.cli import client
    from mesh.cli.status import fetch

    try:
        return fetch(client.run_dir(node)).version
    except (client.AgentDown, client.AgentError):
        return "unavailable"


def run(
    short: Annotated[bool, typer.Option("--short", help="Only this command's, and only the number.")] = False,
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Print versions."""
    from mesh.observe.build import version

    if short:
        typer.echo(version())
        return
    found = {"client": version(), "agent": _agent_version(node)}
    if output is not Output.TABLE:
        typer.echo(encode(found, output), nl=False)
        return
    typer.echo(f"Client version: {found['client']}\nAgent version: {found['agent']}")
