"""Which agent may have a certificate for whom, judged from what the API server says. Pure.

The node rule: an agent gets certificates for service accounts of pods that are bound to its own node and have not
ended, and for no others. So whoever takes a node over is everybody on that node, and nobody elsewhere.

Who asks is known by a token that kubelet made for the agent's pod, with an audience of our own, so that it is of no use
anywhere else and no other token is of use here. The node that the API server wrote into it counts, not what the agent
says; and its pod must live, for a deleted pod's token passes TokenReview for ten seconds more.
Refusals are AuthorityErrors. Sources: authentication.k8s.io/v1; KEP-4193 (node in tokens, Kubernetes 1.30).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode

from mesh.config import AGENT_ACCOUNT, AUTHORITY_AUDIENCE
from mesh.identity.authority import AuthorityError
from mesh.identity.spiffe import BadId, SpiffeId, parse
from mesh.model import Value

ENDED = ("Succeeded", "Failed")
_EXTRA = "authentication.kubernetes.io/"
_SAID_MAX = 200

Object = dict[str, Any]


class Caller(Value, frozen=True):
    """The agent's pod, as its token says."""

    namespace: str
    pod: str
    uid: str
    node: str

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{quote(self.namespace)}/pods/{quote(self.pod)}"


def question(token: str) -> Object:
    return {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [AUTHORITY_AUDIENCE]},
    }


def caller(review: Object, namespace: str, node: str) -> Caller:
    """From the answer to `question`. `namespace`: our own; `node`: as which the agent speaks."""
    status = review.get("status") or {}
    if not status.get("authenticated"):
        said = str(status.get("error") or "")[:_SAID_MAX]
        reason = "audience" if "audience" in said else "token"
        raise AuthorityError(f"the token is not good: {said or 'the API server does not know it'}", reason)
    if AUTHORITY_AUDIENCE not in (status.get("audiences") or ()):  # a server that knows no audiences names none
        raise AuthorityError(f"the token is not for the audience {AUTHORITY_AUDIENCE}", "audience")
    user = status.get("user") or {}
    wanted = f"system:serviceaccount:{namespace}:{AGENT_ACCOUNT}"
    if user.get("username") != wanted:
        raise AuthorityError(f"the token is that of {user.get('username')}, not of {wanted}", "account")
    extra = user.get("extra") or {}
    found = Caller(
        namespace=namespace,
        pod=_only(extra, "pod-name"),
        uid=_only(extra, "pod-uid"),
        node=_only(extra, "node-name"),
    )
    if found.node != node:
        raise AuthorityError(f"the token is that of an agent on node {found.node}, not on {node}", "node")
    return found


def _only(extra: Object, name: str) -> str:
    values = extra.get(f"{_EXTRA}{name}") or []
    if len(values) != 1 or not values[0]:
        raise AuthorityError(f"the token does not say its {name}: it must be the one that kubelet gives a pod", "token")
    return str(values[0])


def check_alive(caller: Caller, pod: Object | None) -> None:
    """`pod`: what there is now of that name."""
    title = f"the agent's pod {caller.namespace}/{caller.pod}"
    if pod is None or pod["metadata"].get("uid") != caller.uid:
        raise AuthorityError(f"{title} is gone, and its token with it", "pod")
    if pod["metadata"].get("deletionTimestamp"):
        raise AuthorityError(f"{title} is being deleted", "pod")
    if (pod.get("spec") or {}).get("nodeName") != caller.node or _phase(pod) in ENDED:
        raise AuthorityError(f"{title} does not run on node {caller.node}", "pod")


def wanted(name: str, trust_domain: str) -> SpiffeId:
    try:
        return parse(name, trust_domain)
    except BadId as error:
        raise AuthorityError(str(error), "refused") from None


def pods_path(who: SpiffeId, node: str) -> str:
    """Of the pods that could give this node the right to that identity."""
    fields = f"spec.nodeName={node},spec.serviceAccountName={who.service_account}"
    return f"/api/v1/namespaces/{quote(who.namespace)}/pods?{urlencode({'fieldSelector': fields})}"


def check_bound(who: SpiffeId, node: str, pods: Iterable[Object]) -> None:
    """What was asked for is looked at again: a server that knows no such selector would have told all pods."""
    for pod in pods:
        spec = pod.get("spec") or {}
        here = spec.get("nodeName") == node and spec.get("serviceAccountName") == who.service_account
        if here and pod["metadata"].get("namespace") == who.namespace and _phase(pod) not in ENDED:
            return
    raise AuthorityError(f"no pod on node {node} runs as {who.namespace}/{who.service_account}", "workload")


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase", ""))
