"""`seine clean`: takes Seine off this node; see mesh.leave."""

from __future__ import annotations

import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, encode, fail, said

NAME = "clean"


def run(node: NodeOption = "", output: OutputOption = Output.TABLE) -> None:
    """Take Seine off this node: hooks, workers, routes, pins, cgroup and run directory.

    Refused while its agent runs.
    """
    from mesh.leave import remove

    directory = client.run_dir(node)
    try:
        with hooks.locked(directory) as free:
            removed = remove(directory) if free else None
    except (OSError, RuntimeError) as error:
        fail(said(error))
    if removed is None:
        fail(f"the agent of node {directory.name!r} is running; end it first")
    if output is not Output.TABLE:
        typer.echo(encode({"node": directory.name, "removed": removed}, output), nl=False)
        return
    for sentence in removed or ["there was nothing to remove"]:
        typer.echo(sentence)
