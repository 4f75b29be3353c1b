"""`seine workers`: starts this node's workers where the agent does not."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli.output import NodeOption, fail

NAME = "workers"


def run(
    node: NodeOption = "",
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
) -> None:
    """Start the workers of this node and keep them going, for an agent with SEINE_EXTERNAL_WORKERS=enabled.

    Needs no privilege. Settings come from the environment, the same as the agent's.
    """
    from mesh import launcher
    from mesh.config import AgentConfig, ConfigError, from_environment

    try:
        launcher.run(from_environment(AgentConfig, node=node or None, workers=workers))
    except ConfigError as error:
        fail(str(error), 2)
