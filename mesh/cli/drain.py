"""`seine drain`: closes what a pod had open before it was captured, so that it comes again, captured."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, encode, fail
from mesh.observe.status import Draining

NAME = "drain"
LOOK_SECONDS = 0.5
INTERRUPTED = 130  # as a shell says it


def _ask(directory: Path, method: str, namespace: str, pod: str) -> Draining:
    try:
        body = client.ask(directory, "/drain", method, {"namespace": [namespace], "pod": [pod]})
    except client.AgentDown:
        fail(hooks.sentence(directory))
    except client.AgentError as error:
        fail(str(error))
    return msgspec.json.decode(body, type=Draining)


def _many(number: int) -> str:
    return f"{number:,} connection" + ("" if number == 1 else "s")


def _conclusion(drain: Draining, name: str) -> str:
    gone = drain.handled - drain.closed
    return f"{_many(drain.closed)} of {name} closed" + (f"; {gone:,} had ended by themselves" if gone else "")


class _Progress:
    """On standard error: a line that is written again and again on a terminal, and once into a file."""

    def __init__(self, name: str) -> None:
        self._name, self._live, self._told = name, sys.stderr.isatty(), False

    def tell(self, drain: Draining) -> None:
        text = f"closing {_many(drain.total)} of {self._name}: {drain.handled:,} done, {drain.seconds_left:.0f} s left"
        if self._live:
            typer.echo(f"\r{text}\x1b[K", nl=False, err=True)
        elif not self._told:
            typer.echo(text, err=True)
        self._told = True

    def end(self) -> None:
        if self._live and self._told:
            typer.echo("\r\x1b[K", nl=False, err=True)


def run(
    pod: Annotated[str, typer.Argument(help="POD or NAMESPACE/POD.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the pod.")] = "default",
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Close the bypassing connections of a pod: those that are older than its capture.

    They end one by one, spread over the agent's drain time, so that clients do not all come again at once. The agent
    does it: Ctrl-C ends only the looking on, and the same command again shows how far it is.
    """
    directory = client.run_dir(node)
    if "/" in pod:
        namespace, _, pod = pod.partition("/")
    name = f"{namespace}/{pod}"
    drain, progress = _ask(directory, "POST", namespace, pod), _Progress(name)
    try:
        while not drain.finished:
            progress.tell(drain)
            threading.Event().wait(LOOK_SECONDS)
            drain = _ask(directory, "GET", namespace, pod)
    except KeyboardInterrupt:
        progress.end()
        fail(f"the agent goes on closing them; `seine drain {name}` shows how far it is", INTERRUPTED)
    progress.end()
    if output is not Output.TABLE:
        typer.echo(encode(drain, output), nl=False)
    else:
        typer.echo(_conclusion(drain, name))
    if drain.detail:
        fail(drain.detail)
