"""`seine metrics`: what Prometheus would read."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, fail

NAME = "metrics"


def run(
    names: Annotated[list[str] | None, typer.Argument(help="Only these metrics.")] = None,
    node: NodeOption = "",
) -> None:
    """Print the metrics of this node in Prometheus' text format."""
    directory = client.run_dir(node)
    try:
        sys.stdout.write(client.ask(directory, "/metrics", query={"name[]": names or []}).decode())
    except client.AgentDown:
        fail(hooks.sentence(directory))
    except client.AgentError as error:
        fail(str(error))
