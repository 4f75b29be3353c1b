"""`seine check`: can Seine run here, and if it runs, is all well?"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from mesh.cli import client, hooks, judge
from mesh.cli.kubectl import HOME, ContextOption, KubeconfigOption, Kubectl, KubectlError, NamespaceOption
from mesh.cli.output import NodeOption, Output, OutputOption, encode, fail
from mesh.cli.report import Check, Result, lines, machine, success

NAME = "check"
NODE = "seine-node"


def node_checks(node: str, agent_runs: bool) -> Iterator[Check]:
    """Every kernel feature tried, one by one. An empty name: not whether an agent could start under it."""
    from mesh.capture import preflight

    for probe in preflight.probes(node, agent_runs):
        failed = Result.ERROR if probe.required else Result.WARNING
        yield Check(NODE, probe.name, Result.SUCCESS if probe.ok else failed, "" if probe.ok else probe.hint)


def machine_checks(node: str, pre: bool) -> Iterator[Check]:
    directory = client.run_dir(node)
    runs = hooks.agent_runs(directory)
    yield from node_checks("" if runs and not pre else directory.name, runs)
    if not pre:
        yield from agent_checks(directory)


def agent_checks(directory: Path) -> Iterator[Check]:
    from mesh.cli.status import fetch
    from mesh.observe.build import version

    try:
        document = fetch(directory)
    except client.AgentDown:
        yield judge.not_running(hooks.sentence(directory))
    except client.AgentError as error:
        yield Check(judge.AGENT, "agent answers", Result.ERROR, str(error))
    else:
        yield from judge.agent(document, version())
        if document.identity.certificates:
            yield from judge.identity(document)
        yield from judge.pods(document)


def cluster_checks(kubectl: Kubectl, namespace: str, pre: bool) -> Iterator[Check]:
    from mesh.cli import cluster
    from mesh.cli.upgrade import installed
    from mesh.install import BadValue, Values

    try:
        values = Values(namespace=namespace)
    except BadValue as error:
        fail(str(error), 2)
    if not pre:
        with contextlib.suppress(BadValue, KubectlError):  # the checks say more
            values = installed(kubectl, namespace)
    yield from cluster.checks(kubectl, values, pre, lambda: datetime.now(UTC))


def run(
    pre: Annotated[bool, typer.Option("--pre", help="Only whether Seine can run here.")] = False,
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Check a cluster, by kubectl, and nothing of this machine.")
    ] = False,
    node: NodeOption = "",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    namespace: NamespaceOption = HOME,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check this node, and the agent if one runs; or a cluster.

    Exit status 1 when a check failed; warnings do not fail.
    """
    checks = cluster_checks(Kubectl(kubeconfig, context), namespace, pre) if cluster else machine_checks(node, pre)
    if output is Output.TABLE:
        good = _print(lines(checks, sys.stdout.isatty()))
    else:
        known = list(checks)
        good = success(known)
        typer.echo(encode(machine(known), output), nl=False)
    raise typer.Exit(0 if good else 1)


def _print(found: Generator[str, None, bool]) -> bool:
    while True:
        try:
            typer.echo(next(found))
        except StopIteration as end:
            return bool(end.value)
