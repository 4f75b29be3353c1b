"""`seine dump`: everything the agent knows, for a bug report."""

from __future__ import annotations

from mesh.cli import client, hooks
from mesh.cli.output import NodeOption, Output, OutputOption, encode, fail

NAME = "dump"


def run(node: NodeOption = "", output: OutputOption = Output.JSON) -> None:
    """Print all state of the agent and its workers."""
    import msgspec
    import typer

    directory = client.run_dir(node)
    try:
        state = msgspec.json.decode(client.ask(directory, "/dump"))
    except client.AgentDown:
        fail(hooks.sentence(directory))
    except client.AgentError as error:
        fail(str(error))
    typer.echo(encode(state, output), nl=False)
