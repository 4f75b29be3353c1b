"""`seine top`: `seine status`, again and again."""

from __future__ import annotations

import threading
from typing import Annotated

import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, fail
from mesh.cli.status import fetch

NAME = "top"


def run(
    node: NodeOption = "",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks, and the window of rates.")] = 1.0,
) -> None:
    """Show the live state of this node until Ctrl-C."""
    from rich.live import Live

    from mesh.cli.screen import screen

    directory = client.run_dir(node)
    try:
        before = fetch(directory)
        with Live(screen(before), auto_refresh=False, screen=True) as live:
            while not threading.Event().wait(interval):
                now = fetch(directory)
                live.update(screen(now, before), refresh=True)
                before = now
    except KeyboardInterrupt:
        return
    except client.AgentDown:
        fail(hooks.sentence(directory))
    except client.AgentError as error:
        fail(str(error))
