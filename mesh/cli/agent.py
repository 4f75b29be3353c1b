"""`seine agent`: runs the node agent until a signal ends it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from mesh.cli.output import NodeOption, fail, said

NAME = "agent"


def _address(text: str | None) -> tuple[str | None, int | None]:
    """HOST:PORT, [HOST]:PORT or :PORT for every address."""
    if text is None:
        return None, None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        fail(f"--metrics-address is {text!r}; it must be HOST:PORT", 2)
    return host.strip("[]"), int(port)


def _settings(wanted: bool) -> None:
    """Every one that a variable may give, and ends the command."""
    if not wanted:
        return
    from dataclasses import fields

    from rich.table import Table

    from mesh.cli.output import Output, emit
    from mesh.config import AgentConfig

    table = Table("VARIABLE", "DEFAULT", "UNIT", "FROM", "TO", "WHY", box=None, pad_edge=False, header_style="bold")
    for each in fields(AgentConfig):
        if "unit" in each.metadata:
            unit, why, low, high = (each.metadata[key] for key in ("unit", "why", "low", "high"))
            bounds = ("" if bound is None else f"{bound:,}" for bound in (low, high))
            table.add_row(f"SEINE_{each.name.upper()}", str(each.default), unit, *bounds, why)
    emit(None, Output.TABLE, lambda: table)
    raise typer.Exit


def run(
    source: Annotated[
        Path | None,
        typer.Option(
            help="Directory of Kubernetes YAML, or the word kubernetes: the API server. Changes are followed."
        ),
    ] = None,
    kubeconfig: Annotated[
        str | None, typer.Option(help="How to reach the API server from outside a pod; implies --source kubernetes.")
    ] = None,
    node: NodeOption = "",
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Where a directory for this node's sockets and counters is made.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    metrics_address: Annotated[
        str | None, typer.Option("--metrics-address", metavar="HOST:PORT", help="For /metrics, /ready, /status, /dump.")
    ] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")] = None,
    settings: Annotated[
        bool,
        typer.Option(
            "--settings", callback=_settings, is_eager=True, help="List all settings with bounds and reasons."
        ),
    ] = False,
) -> None:
    """Run the agent of this node: capture its pods and supervise the workers that carry their traffic.

    There are more settings than options: each may come from an environment variable, and options win. `--settings`
    lists them.
    """
    from mesh.config import KUBERNETES, AgentConfig, ConfigError, from_environment
    from mesh.observe import logs

    host, port = _address(metrics_address)
    try:
        config = from_environment(
            AgentConfig,
            source=source or (Path(KUBERNETES) if kubeconfig else None),
            kubeconfig=kubeconfig,
            node=node or None,
            run_root=run_dir,
            workers=workers,
            admin_address=host,
            admin_port=port,
            log_level=log_level and log_level.upper(),
        )
    except ConfigError as error:
        fail(str(error), 2)
    from mesh import agent, leave

    with logs.to_stream(config.log_level):
        try:
            if agent.run(config):
                for sentence in leave.uninstall(config):
                    logging.getLogger("seine.agent").info("%s", sentence)
        except (RuntimeError, OSError) as error:  # RunDirError and KernelError are sentences for the operator
            fail(said(error))
