"""`seine clean`: takes Seine off this node."""

from __future__ import annotations

import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, encode, fail

NAME = "clean"


def run(node: NodeOption = "", output: OutputOption = Output.TABLE) -> None:
    """Remove hooks, pins, cgroup, workers and run directory of a node name. Refused while its agent runs."""
    directory = client.run_dir(node)
    if hooks.agent_runs(directory):
        fail(f"the agent of node {directory.name!r} is running; end it first")
    import shutil

    from mesh.capture import cgroup2_root, clean, pin_root
    from mesh.forward.supervisor import end_workers

    try:
        removed = clean(directory.name, pin_root(), cgroup2_root())
        removed += [f"ended worker process {pid}" for pid in end_workers(directory)]
        if directory.exists():
            shutil.rmtree(directory)
            removed.append(f"removed {directory}")
    except (OSError, RuntimeError) as error:
        fail(str(error))
    if output is not Output.TABLE:
        typer.echo(encode({"node": directory.name, "removed": removed}, output), nl=False)
        return
    for sentence in removed or ["there was nothing to remove"]:
        typer.echo(sentence)
