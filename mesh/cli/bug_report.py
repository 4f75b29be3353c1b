"""`seine bug-report`: everything that whoever looks into a problem asks for, in one archive, without secrets.

Of a node what its agent knows; of a cluster our objects, what our containers said and what every agent knows. What
cannot be had is a line in `errors.txt`, and keeps nothing else out. Secrets are never asked for, and every text goes
through mesh.cli.secrets.
"""

from __future__ import annotations

import io
import platform
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mesh.cli import client
from mesh.cli.kubectl import HOME, ContextOption, KubeconfigOption, Kubectl, KubectlError, NamespaceOption
from mesh.cli.output import NodeOption, fail, said
from mesh.cli.secrets import scrubbed

NAME = "bug-report"
FILE_BYTES_MAX = 32 << 20
LOG_LINES = "20000"
NODE_PATHS = {"status.json": "/status", "dump.json": "/dump", "metrics.txt": "/metrics"}
KINDS = "daemonsets,deployments,pods,services,configmaps,leases,events,networkpolicies,poddisruptionbudgets"
CLUSTER_KINDS = "nodes,meshnodes.seine.dev,customresourcedefinitions"
COMMANDS = {  # a check that fails is what we want to read, not an error
    "status.json": "seine status -o json --window 1",
    "check.json": "seine check -o json || true",
    "dump.json": "seine dump",
}

Read = Callable[[], str]


def run(
    cluster: Annotated[bool, typer.Option("--cluster", help="Of a cluster, by kubectl; else of this node.")] = False,
    node: NodeOption = "",
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    namespace: NamespaceOption = HOME,
    out: Annotated[Path, typer.Option("--out", help="The archive.")] = Path("seine-bug-report.tar.gz"),
) -> None:
    """Pack what is known of this node, or of a cluster, into an archive; keys, tokens and passwords are left out."""
    parts = of_cluster(Kubectl(kubeconfig, context), namespace) if cluster else of_node(node)
    try:
        names = pack(out, parts)
    except OSError as error:
        fail(said(error))
    typer.echo(f"{out}: {len(names)} files; look into it before you send it")


def pack(out: Path, parts: Iterator[tuple[str, Read]]) -> list[str]:
    """Names of what is in it. Raises OSError."""
    names, errors = [], []
    with tarfile.open(out, "w:gz") as archive:
        for name, read in parts:
            try:
                text = read()
            except (OSError, KubectlError, client.AgentDown, client.AgentError) as error:
                errors.append(f"{name}: {error}")
                continue
            content = scrubbed(text).encode()
            if len(content) > FILE_BYTES_MAX:
                errors.append(f"{name}: of {len(content)} bytes only the last {FILE_BYTES_MAX} are here")
            _add(archive, name, content[-FILE_BYTES_MAX:])
            names.append(name)
        if errors:
            _add(archive, "errors.txt", scrubbed("\n".join(errors) + "\n").encode())
            names.append("errors.txt")
    return names


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(f"seine-bug-report/{name}")
    entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(content))


def of_node(node: str) -> Iterator[tuple[str, Read]]:
    from mesh.observe.build import version

    directory = client.run_dir(node)
    machine = (version(), platform.platform(), platform.python_version(), directory)
    yield "machine.txt", lambda: "\n".join(map(str, machine)) + "\n"
    for name, path in NODE_PATHS.items():
        yield name, partial(_asked, directory, path)
    yield "check.json", lambda: _checked(node)
    for path in ("/proc/self/mountinfo", "/proc/net/route", "/proc/net/ipv6_route"):
        yield f"{path.strip('/').replace('/', '-')}.txt", Path(path).read_text


def _asked(directory: Path, path: str) -> str:
    return client.ask(directory, path).decode(errors="replace")


def _checked(node: str) -> str:
    from mesh.cli.check import machine_checks
    from mesh.cli.output import Output, encode
    from mesh.cli.report import machine

    return encode(machine(list(machine_checks(node, pre=False))), Output.JSON)


def of_cluster(kubectl: Kubectl, namespace: str) -> Iterator[tuple[str, Read]]:
    def ask(*arguments: str) -> Read:
        return lambda: kubectl.run(*arguments)

    yield "version.json", ask("version", "-o", "json")
    yield "objects.yaml", ask("get", KINDS, "-n", namespace, "-o", "yaml")
    yield "cluster.yaml", ask("get", CLUSTER_KINDS, "-o", "yaml")
    yield "policies.yaml", ask("get", "authorizationpolicies.seine.dev", "-A", "-o", "yaml")
    yield "namespaces.yaml", ask("get", "namespaces", "-l", "seine.dev/mesh", "-o", "yaml")
    yield "events.yaml", ask("get", "events", "-A", "--field-selector", "reportingComponent=seine-agent", "-o", "yaml")
    try:
        pods = kubectl.items(f"/api/v1/namespaces/{namespace}/pods")
    except KubectlError:
        return  # the same is in errors.txt already
    for pod in pods:
        name = pod["metadata"]["name"]
        logs = ("logs", "-n", namespace, name, "--all-containers", "--timestamps", f"--tail={LOG_LINES}")
        yield f"pods/{name}/log.txt", ask(*logs)
        if any(each.get("restartCount") for each in pod["status"].get("containerStatuses", ())):
            yield f"pods/{name}/log-before.txt", ask(*logs, "--previous")
        if pod["metadata"].get("labels", {}).get("app.kubernetes.io/name") == "seine-agent":
            for file, command in COMMANDS.items():
                inside = ("exec", "-n", namespace, name, "--", "sh", "-c", command)
                yield f"pods/{name}/{file}", ask(*inside)
