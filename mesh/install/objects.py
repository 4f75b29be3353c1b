"""All objects of an installation, in the order in which they are applied, and the CRDs apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mesh.install.accounts import accounts
from mesh.install.controller import controller
from mesh.install.pods import ADMIN_PORT, agent, labels, worker
from mesh.install.upgrade import record
from mesh.install.values import Values

Object = dict[str, Any]
AGENTS = {"app.kubernetes.io/name": "seine-agent"}
OPERATOR = "monitoring.coreos.com/v1"
_MESH = Path(__file__).resolve().parents[1]
CRDS = _MESH / "crds" if (_MESH / "crds").exists() else _MESH.parent / "deploy/crds"  # of an installation; a checkout


def crds() -> list[Object]:
    """They outlive an installation: with them would go everybody's objects."""
    return [yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))]


def objects(values: Values) -> list[Object]:
    made = [_namespace(values), record(values), *accounts(values), _deny_all(values)]
    made += [*controller(values), agent(values), worker(values)]
    return [*made, *_monitors(values)] if values.monitors else made


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


def _monitors(values: Values) -> list[Object]:
    """For either way of the Prometheus operator. An agent names the pods itself."""
    endpoint = {"port": "metrics", "honorLabels": True}
    return [
        _named("v1", "Service", values)
        | {"spec": {"clusterIP": "None", "selector": AGENTS, "ports": [{"name": "metrics", "port": ADMIN_PORT}]}},
        _named(OPERATOR, "PodMonitor", values)
        | {"spec": {"selector": {"matchLabels": AGENTS}, "podMetricsEndpoints": [endpoint]}},
        _named(OPERATOR, "ServiceMonitor", values)
        | {"spec": {"selector": {"matchLabels": AGENTS}, "endpoints": [endpoint]}},
    ]


def _named(version: str, kind: str, values: Values) -> Object:
    metadata = {"name": "seine-agent", "namespace": values.namespace, "labels": labels("seine-agent")}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
