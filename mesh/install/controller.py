"""The controller: replicas without any privilege, apart from each other where there is room, behind one Service.

Its pods are not in the mesh (our namespace never is), so agents need none of what they come to ask for.
"""

from __future__ import annotations

from typing import Any

from mesh.config import GIVEN_ROOT, AgentConfig, ControllerConfig
from mesh.install.pods import CONTROLLER, RUN, labels
from mesh.install.values import Values

Object = dict[str, Any]
PORT, ADMIN_PORT = ControllerConfig.port, ControllerConfig.admin_port


def controller(values: Values) -> list[Object]:
    return [_service(values), _budget(values), _deployment(values)]


def _metadata(values: Values) -> Object:
    return {"name": CONTROLLER, "namespace": values.namespace, "labels": labels(CONTROLLER)}


def _selector() -> Object:
    return {"app.kubernetes.io/name": CONTROLLER}


def _service(values: Values) -> Object:
    ports = [{"name": "https-authority", "port": PORT, "targetPort": "authority"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(values),
        "spec": {"selector": _selector(), "ports": ports},
    }


def _budget(values: Values) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(values),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selector()}},
    }


def _deployment(values: Values) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(values),
        "spec": {
            "replicas": values.controllers,
            "selector": {"matchLabels": _selector()},
            "template": {"metadata": {"labels": labels(CONTROLLER)}, "spec": _pod(values)},
        },
    }


def _pod(values: Values) -> Object:
    apart = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _selector()},
    }
    return {
        "serviceAccountName": CONTROLLER,
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "topologySpreadConstraints": [apart],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": AgentConfig.worker_uid,
            "runAsGroup": AgentConfig.worker_uid,
            "fsGroup": AgentConfig.worker_uid,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(values)],
        "volumes": [{"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
    }


def _container(values: Values) -> Object:
    return {
        "name": "controller",
        "image": values.image,
        "imagePullPolicy": values.pull_policy,
        "args": ["controller"],
        "env": _environment(values),
        "ports": [
            {"name": "authority", "containerPort": PORT},
            {"name": "metrics", "containerPort": ADMIN_PORT},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "startupProbe": {**_probe("/healthz"), "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 2},
        "livenessProbe": {**_probe("/healthz"), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "volumeMounts": [{"name": "run", "mountPath": RUN}],
    }


def _environment(values: Values) -> list[Object]:
    said = {
        "SEINE_LOG_LEVEL": values.log_level,
        "SEINE_NAMESPACE": values.namespace,
        "SEINE_ROOT_NAMESPACE": values.namespace,
        "SEINE_TRUST_DOMAIN": values.trust_domain,
    }
    name = {"name": "SEINE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    given = [{"name": "SEINE_ROOT_SECRET", "value": GIVEN_ROOT}] if values.root_given else []
    return [name, *({"name": key, "value": text} for key, text in said.items()), *given]


def _probe(path: str) -> Object:
    return {"httpGet": {"port": "metrics", "path": path}}
