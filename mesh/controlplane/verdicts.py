"""What is to be said of an AuthorizationPolicy in its status, as Kubernetes' conditions. Pure.

    Accepted      False: every agent refuses it, and says the same sentence (what a schema cannot tell, like an address)
    ResolvedRefs  False: its selector is about no pod there is now, so that it protects nobody; names may be misspelt

Both carry the generation that they are about: one of an older generation says nothing of what was written since.
Policies cannot conflict: all that are about a pod count, DENY before ALLOW.
Source: Kubernetes API conventions ("typical status properties"), Gateway API's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from msgspec import structs

from mesh.kube import objects
from mesh.kube.parse import parse
from mesh.kube.policy import PolicyFacts
from mesh.kube.settings import BadField
from mesh.model import AuthorizationPolicy

MESSAGE_MAX = 1024  # characters; the API conventions allow 32 Ki

Conditions = tuple[objects.Condition, ...]


def judged(policy: objects.AuthorizationPolicy) -> AuthorizationPolicy | str:
    """What it means, or why agents refuse it."""
    try:
        found = parse(policy)
    except BadField as fault:
        return str(fault)
    assert isinstance(found, PolicyFacts)
    return found.policy


def pods_path(policy: AuthorizationPolicy, root_namespace: str) -> str:
    """Of one pod that it is about. A selector is Kubernetes' own kind of text: its labels have no sign to escape."""
    everywhere = policy.namespace == root_namespace
    folder = "/api/v1/pods" if everywhere else f"/api/v1/namespaces/{policy.namespace}/pods"
    labels = ",".join(f"{key}={value}" for key, value in policy.selector)
    return f"{folder}?{urlencode({'labelSelector': labels, 'limit': '1'})}"


def verdict(found: AuthorizationPolicy | str, selects: bool, generation: int) -> Conditions:
    """`selects`: whether there is a pod that it is about."""
    if isinstance(found, str):
        return (
            _condition("Accepted", False, "Invalid", f"agents refuse it: {found}", generation),
            _condition("ResolvedRefs", False, "Invalid", "it is not accepted", generation),
        )
    accepted = "agents count and tell what it would do (dry run)" if found.dry_run else "agents enforce it"
    labels = ", ".join(f"{key}={value}" for key, value in found.selector) or "any labels"
    where = f"namespace {found.namespace}" if found.selector or not selects else "its namespace"
    pods = f"there are pods with {labels}" if selects else f"no pod of {where} has {labels}: it is about nobody now"
    return (
        _condition("Accepted", True, "Accepted", accepted, generation),
        _condition("ResolvedRefs", selects, "ResolvedRefs" if selects else "NoPodSelected", pods, generation),
    )


def _condition(kind: str, good: bool, reason: str, message: str, generation: int) -> objects.Condition:
    return objects.Condition(
        type=kind,
        status=str(good),
        reason=reason,
        message=message[:MESSAGE_MAX],
        observed_generation=generation,
    )


def due(before: Sequence[objects.Condition], now: Conditions, moment: str) -> Conditions | None:
    """What to write; None when it says so already. `moment`: RFC 3339; a condition's time is that of its last turn."""
    said = {each.type: each for each in before}
    made = []
    for each in now:
        former = said.get(each.type)
        kept = former is not None and former.status == each.status and former.last_transition_time
        time = former.last_transition_time if former is not None and kept else moment
        made.append(structs.replace(each, last_transition_time=time))
    return None if all(said.get(each.type) == each for each in made) else tuple(made)
