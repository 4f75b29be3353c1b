"""`seine upgrade`: from the version that a cluster has to this command's.

Agents first, then workers, for a new agent knows how to go on with the workers of the version before; the other way
round is not tried. What is printed changes everything but the workers that run: these are replaced by `--workers`, node
by node, each when the one before is ready, because with a node's workers go the connections that last longer than
their time to drain.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from mesh.cli.install import SetOption, print_yaml
from mesh.cli.kubectl import (
    HOME,
    ContextOption,
    KubeconfigOption,
    Kubectl,
    KubectlError,
    NamespaceOption,
    NotFound,
    Object,
)
from mesh.cli.output import fail

if TYPE_CHECKING:
    from mesh.install import Values

NAME = "upgrade"
REPLACED_SECONDS = 180.0  # the drain, and an image that has to be pulled
LOOK_SECONDS = 0.5
WORKER, AGENT = "seine-worker", "seine-agent"


def run(
    given: SetOption = None,
    workers: Annotated[bool, typer.Option("--workers", help="Replace workers of an older revision, now.")] = False,
    kubeconfig: KubeconfigOption = "",
    context: ContextOption = "",
    namespace: NamespaceOption = HOME,
) -> None:
    """Print what this version is in the cluster, with the values it was installed with; on standard error what changes.

    `seine upgrade | kubectl apply --server-side -f -` replaces the agents, one node after the other; then
    `seine upgrade --workers` the workers.
    """
    kubectl = Kubectl(kubeconfig, context)
    try:
        if workers:
            for sentence in replace_workers(kubectl, namespace):
                typer.echo(sentence)
        else:
            _print(kubectl, namespace, given or [])
    except (KubectlError, ValueError) as error:
        fail(str(error))


def installed(kubectl: Kubectl, namespace: str) -> Values:
    """The values that the cluster's installation was made with. Raises KubectlError and BadValue."""
    from mesh.install.upgrade import kept

    return kept(_record(kubectl, namespace), [])[0]


def _record(kubectl: Kubectl, namespace: str) -> dict[str, str]:
    from mesh.install.upgrade import RECORD

    try:
        found = kubectl.get(f"/api/v1/namespaces/{namespace}/configmaps/{RECORD}")
    except NotFound:
        raise KubectlError(f"nothing of ours is installed in namespace {namespace}: `seine install`") from None
    return dict(found.get("data") or {})


def _print(kubectl: Kubectl, namespace: str, given: list[str]) -> None:
    from mesh.install import crds, objects
    from mesh.install.upgrade import apart, kept

    data = _record(kubectl, namespace)
    if sentence := apart(data.get("version", "")):
        fail(sentence)
    values, lost = kept(data, given)
    made = [*crds(), *objects(values)]
    for sentence in (*lost, *changes(kubectl, made)):
        typer.echo(sentence, err=True)
    print_yaml(made)


def changes(kubectl: Kubectl, made: list[Object]) -> Iterator[str]:
    """A sentence for each thing that is not as it will be."""
    from mesh.install.difference import difference

    same = True
    for wanted in made:
        title, found = f"{wanted['kind']} {wanted['metadata']['name']}", kubectl.live(wanted)
        said = [f"{title}: {each}" for each in difference(wanted, found)] if found else [f"{title}: new"]
        yield from said
        same = same and not said
    if same:
        yield "nothing changes: the cluster has this version with these values"


def replace_workers(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """Node by node. Raises KubectlError."""
    agents = kubectl.get(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{AGENT}")["status"]
    wanted = agents.get("desiredNumberScheduled", 0)
    if (agents.get("updatedNumberScheduled", 0), agents.get("numberReady", 0)) != (wanted, wanted):
        raise KubectlError(f"first the agents: `kubectl rollout status -n {namespace} daemonset/{AGENT}`")
    latest = _revision(kubectl, namespace)
    old = [pod for pod in _pods(kubectl, namespace) if pod["metadata"]["labels"]["controller-revision-hash"] != latest]
    for pod in sorted(old, key=lambda each: str(each["spec"]["nodeName"])):
        name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
        began = time.monotonic()
        kubectl.run("delete", "pod", name, "-n", namespace, "--wait=true", seconds=REPLACED_SECONDS)
        _wait_ready(kubectl, namespace, node, name)
        yield f"{node}: its workers are replaced, in {time.monotonic() - began:.0f} s"
    yield f"all workers are of revision {latest}"


def _revision(kubectl: Kubectl, namespace: str) -> str:
    """The hash that pods of the latest revision have."""
    path = f"/apis/apps/v1/namespaces/{namespace}/controllerrevisions?labelSelector=app.kubernetes.io/name%3D{WORKER}"
    latest = max(kubectl.items(path), key=lambda each: int(each["revision"]))
    return str(latest["metadata"]["labels"]["controller-revision-hash"])


def _pods(kubectl: Kubectl, namespace: str) -> list[Object]:
    return kubectl.items(f"/api/v1/namespaces/{namespace}/pods?labelSelector=app.kubernetes.io/name%3D{WORKER}")


def _wait_ready(kubectl: Kubectl, namespace: str, node: str, former: str) -> None:
    deadline = time.monotonic() + REPLACED_SECONDS
    while time.monotonic() < deadline:
        for pod in _pods(kubectl, namespace):
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
            if pod["spec"].get("nodeName") == node and pod["metadata"]["name"] != former and ready:
                return
        threading.Event().wait(LOOK_SECONDS)
    raise KubectlError(f"{node}: no new workers are ready after {REPLACED_SECONDS:.0f} s; the others are left alone")
