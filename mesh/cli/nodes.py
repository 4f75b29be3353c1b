"""`seine nodes`: the other nodes, how their pods are reached from here, and who of them still says what it has."""

from __future__ import annotations

import typer
from msgspec import structs

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, emit, fail
from mesh.cli.status import fetch
from mesh.observe.status import NodesDocument

NAME = "nodes"


def run(node: NodeOption = "", output: OutputOption = Output.TABLE) -> None:
    """Show the other nodes' networks of pods: who routes them, where to, what is wrong; and what they list.

    Exit status 1 when one of them is not reached.
    """
    directory = client.run_dir(node)
    try:
        document = fetch(directory)
    except client.AgentDown:
        fail(hooks.sentence(directory))
    except client.AgentError as error:
        fail(str(error))
    from mesh.cli.screen import nodes_screen

    routing = document.routing
    nodes = NodesDocument(**structs.asdict(routing), peers=document.peers)
    emit(nodes, output, lambda: nodes_screen(nodes))
    if routing.problem or not all(each.reached for each in routing.neighbours):
        raise typer.Exit(1)
