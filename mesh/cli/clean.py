"""`seine clean`: takes Seine off this node.

What the other nodes were told first, so that nobody is sent to tunnels that end; then the hooks, so that from then on
nothing is captured that nobody would carry; then the workers, whose connections end with them; then the routes to other
nodes' pods; then what is left in the file system.
"""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, encode, fail, said

NAME = "clean"
HELPERS_SECONDS_MAX = 5.0  # a killed agent's helper in the cgroup ends when it reads that its agent is gone


def _unhook(node: str) -> list[str]:
    """Tries again while helpers of a dead agent are about to leave the cgroup."""
    from mesh.capture import KernelError, cgroup2_root, clean, pin_root

    deadline = time.monotonic() + HELPERS_SECONDS_MAX
    while True:
        try:
            return clean(node, pin_root(), cgroup2_root())
        except KernelError:
            if time.monotonic() > deadline:
                raise
        threading.Event().wait(0.05)


def _unsay(directory: Path) -> list[str]:
    """What cannot be taken back is told, and keeps nothing else here."""
    from mesh.kube.publication import PublicationError, withdraw

    try:
        path = withdraw(directory / "published", directory.name)
    except PublicationError as error:
        return [str(error)]
    return (
        [f"emptied {path}, by which the other nodes knew this one; once they have read it, it can go"] if path else []
    )


def _forget(directory: Path) -> list[str]:
    """A node that is gone must not hold up the rotation of a root."""
    note = directory / "identity"
    if not note.exists():
        return []
    record = Path(note.read_text().rstrip("\n"))
    if not record.exists():
        return []
    record.unlink()
    return [f"removed {record}, by which a rotation of the root would wait for this node"]


def remove(directory: Path) -> list[str]:
    """A sentence for each thing that was there. The caller holds the node's lock."""
    from mesh.forward.supervisor import end_workers
    from mesh.node_routes import leave

    removed = _unsay(directory)
    removed += _unhook(directory.name)
    removed += [f"ended worker process {pid}" for pid in end_workers(directory)]
    removed += _forget(directory)  # now that nobody of ours can be cut off
    removed += leave(directory)
    if directory.exists():
        shutil.rmtree(directory)
        removed.append(f"removed {directory}")
    return removed


def run(node: NodeOption = "", output: OutputOption = Output.TABLE) -> None:
    """Take Seine off this node: hooks, workers, routes, pins, cgroup and run directory.

    Refused while its agent runs.
    """
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
