"""`seine drain`: closes what a pod had open before it was captured, so that it comes again, captured."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, encode, fail

NAME = "drain"
DRAIN_SECONDS_MAX = 3660.0  # the agent spreads the ends over its drain time, at most an hour


class Drained(msgspec.Struct):
    closed: int
    detail: str = ""


def run(
    pod: Annotated[str, typer.Argument(help="POD or NAMESPACE/POD.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Of the pod.")] = "default",
    node: NodeOption = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Close the bypassing connections of a pod: those that are older than its capture.

    They end one by one, spread over the agent's drain time, so that clients do not all come again at once.
    """
    directory = client.run_dir(node)
    if "/" in pod:
        namespace, _, pod = pod.partition("/")
    try:
        answer = client.ask(directory, "/drain", "POST", {"namespace": [namespace], "pod": [pod]}, DRAIN_SECONDS_MAX)
    except client.AgentDown:
        fail(hooks.sentence(directory.name))
    except client.AgentError as error:
        fail(str(error))
    drained = msgspec.json.decode(answer, type=Drained)
    if output is not Output.TABLE:
        typer.echo(encode(drained, output), nl=False)
        return
    typer.echo(drained.detail or f"{drained.closed} connections of {namespace}/{pod} closed")
