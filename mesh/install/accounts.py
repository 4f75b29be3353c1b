"""Service accounts and what they may do: the agent what its source and its publications need, the workers nothing."""

from __future__ import annotations

from typing import Any

from mesh.install.values import Values

Object = dict[str, Any]
READ = ["list", "watch"]


def accounts(values: Values) -> list[Object]:
    return [
        _account("seine-agent", values),
        {**_account("seine-worker", values), "automountServiceAccountToken": False},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "seine-agent"},
            "rules": [
                _rule("", ["namespaces", "nodes", "pods", "services"], READ),
                _rule("discovery.k8s.io", ["endpointslices"], READ),
                _rule("seine.dev", ["authorizationpolicies"], READ),
                _rule("", ["events"], ["create"]),
                _rule("seine.dev", ["meshnodes"], [*READ, "get", "create", "patch"]),
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "seine-agent"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "seine-agent"},
            "subjects": [_subject(values)],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "seine-agent", "namespace": values.namespace},
            "rules": [_rule("coordination.k8s.io", ["leases"], ["create", "patch"])],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "seine-agent", "namespace": values.namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "seine-agent"},
            "subjects": [_subject(values)],
        },
    ]


def _account(name: str, values: Values) -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": values.namespace}}


def _subject(values: Values) -> Object:
    return {"kind": "ServiceAccount", "name": "seine-agent", "namespace": values.namespace}


def _rule(group: str, resources: list[str], verbs: list[str]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}
