"""Which policies are about a pod of this node, in the order in which the engine looks at them.

Istio's rules: a policy of the root namespace is about pods of all namespaces, any other about its own; a selector
narrows it to pods that have all its labels. DENY comes before ALLOW. In principals, `cluster.local` as the trust domain
means the mesh's own, whatever that is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs

from mesh.model import (
    Authorization,
    AuthorizationPolicy,
    AuthzAction,
    AuthzRule,
    AuthzSource,
    Match,
    Pattern,
    Pod,
    Snapshot,
)

ORDER = (AuthzAction.DENY, AuthzAction.ALLOW, AuthzAction.AUDIT)
OWN_DOMAIN = "cluster.local/"


def compile_policies(
    snapshot: Snapshot, slots: Mapping[str, int], trust_domain: str, root_namespace: str
) -> dict[int, Authorization]:
    """By slot; `slots`: workload uid -> slot, for this node's enrolled pods. What is not here may be called by all."""
    policies = sorted(
        (_with_domain(each, trust_domain) for each in snapshot.policies),
        key=lambda each: (ORDER.index(each.action), each.namespace, each.name),
    )
    found = {
        slots[pod.workload.uid]: authorization_of(pod, policies, snapshot.default_deny, root_namespace)
        for pod in snapshot.pods
        if pod.workload.uid in slots
    }
    return {slot: each for slot, each in found.items() if each != Authorization()}


def authorization_of(
    pod: Pod, policies: Iterable[AuthorizationPolicy], default_deny: frozenset[str], root_namespace: str
) -> Authorization:
    namespace = pod.workload.namespace
    return Authorization(
        policies=tuple(
            each
            for each in policies
            if each.namespace in (namespace, root_namespace) and pod.labels.issuperset(each.selector)
        ),
        default_deny=namespace in default_deny,
    )


def _with_domain(policy: AuthorizationPolicy, trust_domain: str) -> AuthorizationPolicy:
    return structs.replace(policy, rules=tuple(_rule(each, trust_domain) for each in policy.rules))


def _rule(rule: AuthzRule, trust_domain: str) -> AuthzRule:
    return structs.replace(rule, sources=tuple(_source(each, trust_domain) for each in rule.sources))


def _source(source: AuthzSource, trust_domain: str) -> AuthzSource:
    return structs.replace(
        source,
        principals=tuple(_principal(each, trust_domain) for each in source.principals),
        not_principals=tuple(_principal(each, trust_domain) for each in source.not_principals),
    )


def _principal(pattern: Pattern, trust_domain: str) -> Pattern:
    if pattern.how is Match.SUFFIX or not pattern.text.startswith(OWN_DOMAIN):
        return pattern
    return structs.replace(pattern, text=f"{trust_domain}/{pattern.text.removeprefix(OWN_DOMAIN)}")
