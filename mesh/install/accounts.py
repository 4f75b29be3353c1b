"""Service accounts and what they may do: agent and controller what they need and no more, the workers nothing.

In our own namespace the controller may read and change its own Secret and one that is handed in; making one cannot be
narrowed to a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mesh.config import GIVEN_ROOT, ROOTS_BUNDLE
from mesh.install.values import Values

Object = dict[str, Any]
READ = ["list", "watch"]
RBAC = "rbac.authorization.k8s.io/v1"


def accounts(values: Values) -> list[Object]:
    return [
        *(_account("seine-agent", values), _account("seine-controller", values)),
        {**_account("seine-worker", values), "automountServiceAccountToken": False},
        *_granted("seine-agent", values, _agent_everywhere(), _agent_at_home()),
        *_granted("seine-controller", values, _controller_everywhere(), _controller_at_home()),
    ]


def _agent_everywhere() -> list[Object]:
    return [
        _rule("", ["events"], ["create"]),
        _rule("", ["namespaces", "nodes", "pods", "services"], READ),
        _rule("discovery.k8s.io", ["endpointslices"], READ),
        _rule("seine.dev", ["authorizationpolicies"], READ),
        _rule("seine.dev", ["meshnodes"], [*READ, "get", "create", "patch"]),
    ]


def _agent_at_home() -> list[Object]:
    return [
        _rule("coordination.k8s.io", ["leases"], ["create", "patch"]),
        _rule("", ["configmaps"], ["get"], [ROOTS_BUNDLE]),
    ]


def _controller_everywhere() -> list[Object]:
    return [
        _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
        _rule("", ["pods"], ["get", "list"]),
        _rule("", ["nodes"], ["get"]),
        _rule("seine.dev", ["meshnodes"], ["get", "patch", "delete"]),
        _rule("seine.dev", ["authorizationpolicies"], READ),
        _rule("seine.dev", ["authorizationpolicies/status"], ["patch"]),
    ]


def _controller_at_home() -> list[Object]:
    return [
        _rule("coordination.k8s.io", ["leases"], ["create", "delete"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "update"], ["seine-controller"]),
        _rule("", ["secrets"], ["create"]),
        _rule("", ["secrets"], ["get", "update"], ["seine-authority"]),
        _rule("", ["secrets"], ["get"], [GIVEN_ROOT]),
        _rule("", ["configmaps"], ["get", "list", "create", "patch", "delete"]),
    ]


def _granted(name: str, values: Values, everywhere: list[Object], at_home: list[Object]) -> Iterator[Object]:
    for kind, rules in (("ClusterRole", everywhere), ("Role", at_home)):
        metadata = {"name": name, "namespace": values.namespace} if kind == "Role" else {"name": name}
        role = {"apiVersion": RBAC, "kind": kind, "metadata": metadata}
        yield role | {"rules": rules}
        yield role | {
            "kind": f"{kind}Binding",
            "roleRef": {"apiGroup": RBAC.partition("/")[0], "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": values.namespace}],
        }


def _account(name: str, values: Values) -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": values.namespace}}


def _rule(group: str, resources: list[str], verbs: list[str], names: list[str] | None = None) -> Object:
    only = {"resourceNames": names} if names else {}
    return {"apiGroups": [group], "resources": resources, **only, "verbs": verbs}
