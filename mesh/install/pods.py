"""The two DaemonSets of one image, which meet at a Unix socket under a hostPath.

The agent has every privilege of its node, and the node's cgroup tree, BPF file system and process ids, without which
hooks reach nobody. The workers meet the restricted profile but for that one hostPath; they are replaced only when
somebody deletes them, for with them go the connections that they carry.
"""

from __future__ import annotations

from typing import Any

from mesh.config import AUTHORITY_AUDIENCE, ROOTS_BUNDLE, AgentConfig, ControllerConfig
from mesh.install.values import Values

Object = dict[str, Any]
RUN, STATE = "/run/seine", "/var/lib/seine"
CNI = {"cni_conf": "/host/cni/net.d", "cni_bin": "/host/cni/bin"}  # where the agent sees the node's folders
WORKER_GRACE_SECONDS = 45  # the drain, and what a busy node takes beside it
EVERYWHERE = [{"operator": "Exists"}]  # a node without an agent would be a node without the mesh
ADMIN_PORT = AgentConfig.admin_port
CONTROLLER = ControllerConfig.service
TOKEN = str(AgentConfig.authority_token.parent)


def agent(values: Values) -> Object:
    mounts = [
        {"name": "run", "mountPath": RUN},
        {"name": "state", "mountPath": STATE},
        {"name": "cgroup", "mountPath": "/host/cgroup", "mountPropagation": "HostToContainer"},
        {"name": "bpf", "mountPath": "/sys/fs/bpf", "mountPropagation": "Bidirectional"},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "token", "mountPath": TOKEN, "readOnly": True},
    ]
    folders = CNI if values.cni else {}
    mounts += [{"name": _dashed(name), "mountPath": inside} for name, inside in folders.items()]
    container = {
        "name": "agent",
        "image": values.image,
        "imagePullPolicy": values.pull_policy,
        "args": ["agent", "--source", "kubernetes"],
        "env": [
            *_environment(values),
            *_authority(values),
            *({"name": f"SEINE_{name.upper()}", "value": inside} for name, inside in folders.items()),
        ],
        "ports": [{"name": "metrics", "containerPort": ADMIN_PORT, "hostPort": ADMIN_PORT}],
        "securityContext": {"privileged": True, "readOnlyRootFilesystem": True},
        "resources": {"requests": {"cpu": "50m", "memory": "150Mi"}},
        "startupProbe": {**_probe("/healthz"), "periodSeconds": 1, "failureThreshold": 120},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 2},
        "livenessProbe": {**_probe("/healthz"), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "volumeMounts": mounts,
    }
    token = {"audience": AUTHORITY_AUDIENCE, "expirationSeconds": 3600, "path": "token"}
    spec = {
        "serviceAccountName": "seine-agent",
        "hostNetwork": True,  # routes to other nodes' pods, and nothing of the node's network may be in its way
        "hostPID": True,  # pods are found by their processes, and hung workers ended
        "dnsPolicy": "ClusterFirstWithHostNet",
        "containers": [container],
        "volumes": [
            *(_host_path("run", RUN), _host_path("state", STATE)),
            *(_host_path("cgroup", "/sys/fs/cgroup", "Directory"), _host_path("bpf", "/sys/fs/bpf", "Directory")),
            {"name": "tmp", "emptyDir": {}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}},
            *(_host_path(_dashed(name), getattr(values, name)) for name in folders),
        ],
    }
    update = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}
    return _daemon_set("seine-agent", values, spec, update)


def worker(values: Values) -> Object:
    uid = AgentConfig.worker_uid
    container = {
        "name": "workers",
        "image": values.image,
        "imagePullPolicy": values.pull_policy,
        "args": ["workers"],
        "env": _environment(values),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "resources": {"requests": {"cpu": "100m", "memory": "80Mi"}},
        "volumeMounts": [{"name": "run", "mountPath": RUN}],
    }
    spec = {
        "serviceAccountName": "seine-worker",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": WORKER_GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": uid,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [_host_path("run", RUN)],
    }
    return _daemon_set("seine-worker", values, spec, {"type": "OnDelete"})


def labels(name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "seine"}


def _daemon_set(name: str, values: Values, spec: Object, update: Object) -> Object:
    common = {"priorityClassName": "system-node-critical", "tolerations": EVERYWHERE}
    common["nodeSelector"] = {"kubernetes.io/os": "linux"}  # type: ignore[assignment]
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": values.namespace, "labels": labels(name)},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "updateStrategy": update,
            "template": {"metadata": {"labels": labels(name)}, "spec": {**common, **spec}},
        },
    }


def _environment(values: Values) -> list[Object]:
    said = {
        "SEINE_ADMIN_ADDRESS": "0.0.0.0" if values.monitors else AgentConfig.admin_address,
        "SEINE_EXTERNAL_WORKERS": "enabled",
        "SEINE_LOG_LEVEL": values.log_level,
        "SEINE_MTLS": values.mtls,
        "SEINE_NAMESPACE": values.namespace,
        "SEINE_ROOT_NAMESPACE": values.namespace,
        "SEINE_TRUST_DOMAIN": values.trust_domain,
        "SEINE_WORKERS": str(values.workers),
    }
    node = {"name": "SEINE_NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    return [node, *({"name": name, "value": text} for name, text in said.items())]


def _authority(values: Values) -> list[Object]:
    """Where the agent has its certificates from. The roots are asked for by API: a volume would be a minute behind."""
    said = {
        "SEINE_AUTHORITY_URL": f"https://{CONTROLLER}.{values.namespace}.svc:{ControllerConfig.port}",
        "SEINE_AUTHORITY_BUNDLE": ROOTS_BUNDLE,
    }
    return [{"name": name, "value": text} for name, text in said.items()]


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _probe(path: str) -> Object:
    """Kubelet asks from the node's own network, where the agent's port is for nobody else."""
    return {"httpGet": {"host": "127.0.0.1", "port": ADMIN_PORT, "path": path}}


def _host_path(name: str, path: str, kind: str = "DirectoryOrCreate") -> Object:
    return {"name": name, "hostPath": {"path": path, "type": kind}}
