"""`seine controller`: runs a replica of the cluster's controller until a signal ends it."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh.cli.output import fail, said

NAME = "controller"


def run(
    kubeconfig: Annotated[str | None, typer.Option(help="How to reach the API server from outside a pod.")] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")] = None,
) -> None:
    """Run a replica of the controller: it signs certificates for agents, and one of them keeps roots and statuses.

    `seine install` has it run. Settings come from the environment: mesh/config.py says which, and why.
    """
    from mesh import controller
    from mesh.config import ConfigError, ControllerConfig, from_environment
    from mesh.observe import logs

    try:
        config = from_environment(ControllerConfig, kubeconfig=kubeconfig, log_level=log_level and log_level.upper())
    except ConfigError as error:
        fail(str(error), 2)
    with logs.to_stream(config.log_level):
        try:
            controller.run(config)
        except (RuntimeError, OSError) as error:
            fail(said(error))
