"""All objects of an installation, in the order in which they are applied, and the CRDs apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mesh.install.accounts import accounts
from mesh.install.pods import agent, labels, worker
from mesh.install.values import Values

Object = dict[str, Any]
_MESH = Path(__file__).resolve().parents[1]
CRDS = _MESH / "crds" if (_MESH / "crds").exists() else _MESH.parent / "deploy/crds"  # of an installation; a checkout


def crds() -> list[Object]:
    """They outlive an installation: with them would go everybody's objects."""
    return [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]


def objects(values: Values) -> list[Object]:
    made = [_namespace(values), *accounts(values), _deny_all(values), agent(values), worker(values)]
    return [*made, _monitor(values)] if values.monitors else made


def _namespace(values: Values) -> Object:
    """The agent needs every privilege, hence Pod Security's least profile, for this namespace alone. Never meshed."""
    marks = {"pod-security.kubernetes.io/enforce": "privileged", "seine.dev/mesh": "disabled"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": values.namespace, "labels": marks}}


def _deny_all(values: Values) -> Object:
    """Workers have a network of their own that they never use: what they carry goes by pods' sockets. The agent is on
    its node's network, where no NetworkPolicy reaches it."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "seine-worker", "namespace": values.namespace},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": "seine-worker"}},
            "policyTypes": ["Ingress", "Egress"],
        },
    }


def _monitor(values: Values) -> Object:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": "seine-agent", "namespace": values.namespace, "labels": labels("seine-agent")},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": "seine-agent"}},
            "podMetricsEndpoints": [{"port": "metrics", "honorLabels": True}],  # an agent names the pods itself
        },
    }
