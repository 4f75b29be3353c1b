"""`seine nodes`: the other nodes, and how their pods are reached from here."""

from __future__ import annotations

import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, emit, fail
from mesh.cli.status import fetch

NAME = "nodes"


def run(node: NodeOption = "", output: OutputOption = Output.TABLE) -> None:
    """Show the other nodes' networks of pods: who routes them, where to, and what is wrong.

    Exit status 1 when one of them is not reached.
    """
    directory = client.run_dir(node)
    try:
        routing = fetch(directory).routing
    except client.AgentDown:
        fail(hooks.sentence(directory))
    except client.AgentError as error:
        fail(str(error))
    from mesh.cli.screen import nodes_screen

    emit(routing, output, lambda: nodes_screen(routing))
    if routing.problem or not all(each.reached for each in routing.neighbours):
        raise typer.Exit(1)
