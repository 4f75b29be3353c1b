"""What `seine check --cluster` asks a cluster, and what it thinks of the answers.

Before an installation (`--pre`): may it be installed, by whoever asks, and can its nodes run it? Afterwards: is it
there as it was meant, on every node? In which state pods are their agents know; here it is what Events tell of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from mesh.cli.kubectl import Kubectl, KubectlError, NotFound, Object
from mesh.cli.report import Check, Result
from mesh.config import ControllerConfig
from mesh.install import Values, crds, objects
from mesh.install.difference import difference
from mesh.kube.api.publication import LEASE_SECONDS

API, RIGHTS, NODES, INSTALLED = "kubernetes-api", "seine-permissions", "kubernetes-nodes", "seine-installation"
KUBERNETES_OLDEST = (1, 30)  # tokens of pods say their node since, by which the controller knows agents
KERNEL_OLDEST = (6, 1)
ARCHITECTURES = ("amd64", "arm64")
CONTROLLER = ControllerConfig.service
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
EVENTS = "/api/v1/events?fieldSelector=type%3DWarning%2CreportingComponent%3Dseine-agent"
SHOWN_MAX = 10


def _check(category: str, description: str, bad: Iterable[str], result: Result = Result.ERROR, hint: str = "") -> Check:
    """Good when there is nothing bad."""
    found = list(bad)
    more = [f"and {len(found) - SHOWN_MAX} more"] if len(found) > SHOWN_MAX else []
    error = "\n    ".join((*found[:SHOWN_MAX], *more))
    return Check(category, description, result if found else Result.SUCCESS, error, hint if found else "")


def checks(kubectl: Kubectl, values: Values, pre: bool, now: Callable[[], datetime]) -> Iterator[Check]:
    """All that can be told; one that says that nobody answers is the last."""
    try:
        version = kubectl.get("/version")
        yield Check(API, "can query the Kubernetes API")
        yield server(version)
        found = kubectl.items("/api/v1/nodes")
        yield from nodes(found)
        yield from before(kubectl, values) if pre else after(kubectl, values, found, now())
    except KubectlError as error:
        yield Check(API, "the Kubernetes API answers", Result.ERROR, str(error), "does `kubectl version` work?")


def server(version: Object) -> Check:
    said = str(version.get("gitVersion", ""))
    old = _numbers(said) < KUBERNETES_OLDEST
    least = ".".join(map(str, KUBERNETES_OLDEST))
    return _check(API, f"Kubernetes is {least} or later", [f"it is {said}"] if old else [])


def nodes(found: list[Object]) -> Iterator[Check]:
    linux = {each["metadata"]["name"]: each["status"]["nodeInfo"] for each in found if _is_linux(each)}
    kernel = ".".join(map(str, KERNEL_OLDEST))
    old = (
        f"{name} has {info['kernelVersion']}"
        for name, info in linux.items()
        if _numbers(info["kernelVersion"]) < KERNEL_OLDEST
    )
    hint = "there hooks cannot be loaded: a newer distribution brings a newer kernel"
    yield _check(NODES, f"kernels of all nodes are {kernel} or later", old, hint=hint)
    strange = (
        f"{name} is {info['architecture']}" for name, info in linux.items() if info["architecture"] not in ARCHITECTURES
    )
    yield _check(NODES, f"all nodes are {' or '.join(ARCHITECTURES)}", strange, hint="there is no image for others")
    others = (each["metadata"]["name"] for each in found if not _is_linux(each))
    yield _check(NODES, "all nodes run Linux", others, Result.WARNING, "their pods stay outside of the mesh")


def before(kubectl: Kubectl, values: Values) -> Iterator[Check]:
    for wanted in _one_of_each_kind([*crds(), *objects(values)]):
        refused = [f"{verb} is not allowed" for verb in ("create", "patch") if not _may(kubectl, wanted, verb)]
        hint = "ask somebody who is cluster-admin"
        yield _check(RIGHTS, f"can create {_resource(wanted['kind'])}", refused, hint=hint)
    lacking = [] if _may_anything(kubectl) else list(_not_grantable(kubectl, values))
    hint = "Kubernetes lets nobody grant what he does not have himself"
    yield _check(RIGHTS, "can grant what our agents need", lacking, hint=hint)
    yield from namespace(_get(kubectl, f"/api/v1/namespaces/{values.namespace}"), values.namespace)
    yield from definitions(kubectl, installed=False)


def namespace(found: Object | None, name: str) -> Iterator[Check]:
    if found is None:
        yield Check(INSTALLED, f"namespace {name} is free")
        return
    ending = ["it is being deleted"] if found["metadata"].get("deletionTimestamp") else []
    yield _check(INSTALLED, f"namespace {name} stays", ending, hint="install when it is gone")
    enforced = found["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce", "privileged")
    bad = [] if enforced == "privileged" else [f"Pod Security enforces {enforced} there"]
    hint = "the agent needs every privilege; `seine install` sets the label"
    yield _check(INSTALLED, f"namespace {name} may hold privileged pods", bad, Result.WARNING, hint)


def definitions(kubectl: Kubectl, installed: bool) -> Iterator[Check]:
    """Custom resource definitions."""
    for wanted in crds():
        name = wanted["metadata"]["name"]
        found = _get(kubectl, f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
        if found is None:
            absent = ["it is not there"] if installed else []
            yield _check(INSTALLED, f"definition {name} is installed" if installed else f"{name} is free", absent)
            continue
        unlike = difference(wanted["spec"], found["spec"])
        hint = "`seine install` brings this version's: definitions are not changed by Helm"
        yield _check(INSTALLED, f"definition {name} is this version's", unlike, Result.WARNING, hint)


def after(kubectl: Kubectl, values: Values, found: list[Object], now: datetime) -> Iterator[Check]:
    yield from definitions(kubectl, installed=True)
    home = values.namespace
    sets = {each["metadata"]["name"]: each for each in kubectl.items(f"/apis/apps/v1/namespaces/{home}/daemonsets")}
    if not sets:
        yield _check(INSTALLED, f"Seine is installed in {home}", ["it is not"], hint="`seine install`")
        return
    unlike = (f"{_title(each)}: {one}" for each in objects(values) for one in _unlike(kubectl, each))
    yield _check(
        INSTALLED, "objects are this version's", unlike, Result.WARNING, "`seine upgrade` says what would change"
    )
    for name, each in sets.items():
        yield from _everywhere(name, each.get("status", {}))
    yield _controller(_get(kubectl, f"/apis/apps/v1/namespaces/{home}/deployments/{CONTROLLER}"))
    names = {each["metadata"]["name"] for each in found if _is_linux(each)}
    said = {each["metadata"]["name"] for each in kubectl.items("/apis/seine.dev/v1alpha1/meshnodes")}
    yield _check(INSTALLED, "every node says who is in the mesh there", sorted(names - said), Result.WARNING)
    yield _check(
        INSTALLED,
        "nobody speaks for a node that is gone",
        sorted(said - names),
        Result.WARNING,
        "the controller takes the list back, within minutes: until then its pods are taken to be there",
    )
    leases = kubectl.items(f"/apis/coordination.k8s.io/v1/namespaces/{home}/leases")
    yield _check(INSTALLED, "agents were heard of in the last two minutes", _silent(leases, names, now), Result.WARNING)
    yield _check(INSTALLED, "no pod leaks or is refused", _told(kubectl.items(EVENTS)), Result.WARNING)


def _everywhere(name: str, status: Object) -> Iterator[Check]:
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    yield _check(INSTALLED, f"{name} is ready on all {wanted} nodes", [f"on {ready}"] if ready != wanted else [])
    fresh = status.get("updatedNumberScheduled", 0)
    hint = "agents are replaced one by one; `seine upgrade --workers` replaces workers"
    old = [f"on {wanted - fresh} nodes it is not"] if fresh != wanted else []
    yield _check(INSTALLED, f"{name} is of the latest revision", old, Result.WARNING, hint)


def _controller(found: Object | None) -> Check:
    status = (found or {}).get("status", {})
    wanted, ready = status.get("replicas", 0), status.get("readyReplicas", 0)
    bad = [f"{ready} of {wanted} are; the logs of its pods say why"] if ready != wanted or not ready else []
    worse = Result.WARNING if ready else Result.ERROR
    hint = "without it nodes go on with the certificates they have, and nobody new gets one"
    return _check(INSTALLED, f"all replicas of {CONTROLLER} are ready", bad, worse, hint)


def _silent(leases: list[Object], names: set[str], now: datetime) -> Iterator[str]:
    heard = {each["spec"].get("holderIdentity", ""): each["spec"].get("renewTime", "") for each in leases}
    for name in sorted(names & heard.keys()):
        age = (now - datetime.fromisoformat(heard[name])).total_seconds() if heard[name] else float("inf")
        if age > LEASE_SECONDS:
            yield f"{name}: {age:.0f} s ago"


def _told(events: list[Object]) -> Iterator[str]:
    for each in events:
        about = each["involvedObject"]
        yield f"{about.get('namespace')}/{about.get('name')}: {each['reason']}: {each['message']}"


# --- questions


def _get(kubectl: Kubectl, path: str) -> Object | None:
    try:
        return kubectl.get(path)
    except NotFound:
        return None


def _unlike(kubectl: Kubectl, wanted: Object) -> Iterator[str]:
    found = kubectl.live(wanted)
    if found is None:
        yield "it is not there"
    else:
        yield from difference(wanted, found)


def _may(kubectl: Kubectl, wanted: Object, verb: str) -> bool:
    group = wanted["apiVersion"].rpartition("/")[0]
    return _allowed(kubectl, group, _resource(wanted["kind"]), verb, wanted["metadata"].get("namespace", ""))


def _may_anything(kubectl: Kubectl) -> bool:
    return _allowed(kubectl, "*", "*", "*", "")


def _not_grantable(kubectl: Kubectl, values: Values) -> Iterator[str]:
    for role in objects(values):
        for rule in role.get("rules", ()):
            where = role["metadata"].get("namespace", "")
            each = (
                (group, what, verb)
                for group in rule["apiGroups"]
                for what in rule["resources"]
                for verb in rule["verbs"]
            )
            for group, what, verb in each:
                if not _allowed(kubectl, group, what, verb, where):
                    yield f"{verb} {what}"


def _allowed(kubectl: Kubectl, group: str, resource: str, verb: str, where: str) -> bool:
    name, _, inner = resource.partition("/")
    attributes = {"group": group, "resource": name, "subresource": inner, "verb": verb, "namespace": where}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(kubectl.post(REVIEWS, body).get("status", {}).get("allowed"))


def _one_of_each_kind(wanted: Iterable[Object]) -> list[Object]:
    return list({each["kind"]: each for each in wanted}.values())


def _resource(kind: str) -> str:
    """Kubernetes' own plural."""
    small = kind.lower()
    return f"{small[:-1]}ies" if small.endswith("y") else f"{small}s"


def _title(each: Object) -> str:
    return f"{each['kind']} {each['metadata']['name']}"


def _is_linux(node: Object) -> bool:
    return bool(node["status"]["nodeInfo"]["operatingSystem"] == "linux")


def _numbers(version: str) -> tuple[int, ...]:
    """The first two."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))
