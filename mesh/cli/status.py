"""`seine status`: what the agent of this node sees."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, emit, encode, fail
from mesh.observe.status import StatusDocument, decode

NAME = "status"


def fetch(directory: Path) -> StatusDocument:
    return decode(client.ask(directory, "/status"))


def _down(directory: Path, output: Output) -> None:
    sentence, node = hooks.sentence(directory), directory.name
    if output is not Output.TABLE:
        known = {"node": node, "running": False, "hooks": hooks.pinned(node), "detail": sentence}
        typer.echo(encode(known, output), nl=False)
        raise typer.Exit(1)
    fail(sentence)


def run(
    node: NodeOption = "",
    window: Annotated[
        float, typer.Option(min=0.0, help="Seconds to measure rates over; 0: totals since the start.")
    ] = 1.0,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show pods, services and workers of this node. Exit status 1 when the agent is not running."""
    directory = client.run_dir(node)
    try:
        before, now = None, fetch(directory)
        if window:
            threading.Event().wait(window)
            before, now = now, fetch(directory)
    except client.AgentDown:
        _down(directory, output)
        return
    except client.AgentError as error:
        fail(str(error))
    from mesh.cli.screen import screen
    from mesh.observe.rates import rates

    machine = {"running": True, "status": now, "rates": rates(now, before)}
    emit(machine, output, lambda: screen(now, before))
