"""A control plane without nodes, and our namespace in it as `seine install` makes it: for what concerns the API server
alone. Pods are objects here, bound to nodes that nobody runs; their tokens are real.
"""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from mesh.config import AUTHORITY_AUDIENCE, ROOTS_BUNDLE, AgentConfig
from mesh.identity.remote import Remote
from mesh.install import crds
from mesh.install.accounts import accounts
from mesh.install.values import Values
from mesh.source import open_roots
from tests.cluster import binaries
from tests.cluster.api import Api, ApiError, Object
from tests.cluster.control import Control
from tests.cluster.machine import Machine
from tests.kit import leftovers, spawn
from tests.kit.lab import Lab
from tests.kit.wait import eventually

HOME = "seine-system"
PLURALS = {
    "Namespace": "api/v1/namespaces",
    "Node": "api/v1/nodes",
    "ServiceAccount": "api/v1/namespaces/NS/serviceaccounts",
    "Pod": "api/v1/namespaces/NS/pods",
    "ClusterRole": "apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "Role": "apis/rbac.authorization.k8s.io/v1/namespaces/NS/roles",
    "RoleBinding": "apis/rbac.authorization.k8s.io/v1/namespaces/NS/rolebindings",
    "CustomResourceDefinition": "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "Lease": "apis/coordination.k8s.io/v1/namespaces/NS/leases",
    "MeshNode": "apis/seine.dev/v1alpha1/meshnodes",
    "AuthorizationPolicy": "apis/seine.dev/v1alpha1/namespaces/NS/authorizationpolicies",
}


class Replica:
    """A process of the controller, outside of the cluster, with the rights of its account."""

    def __init__(self, process: spawn.Process, name: str, port: int, admin_port: int) -> None:
        self.process, self.name, self.port, self.admin_port = process, name, port, admin_port

    def ask(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def ready(self) -> bool:
        if not self.process.alive:
            raise RuntimeError(f"{self.name} ended:\n{self.process.output()[-4000:]}")
        try:
            return self.ask("/readyz") == "ok\n"
        except OSError:
            return False

    def metric(self, line: str) -> float:
        """Of the series that begins so; 0 when there is none."""
        found = [each for each in self.ask("/metrics").splitlines() if each.startswith(f"{line} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    def leads(self) -> bool:
        return self.metric("seine_controller_leader") == 1.0


class MeshHome:
    def __init__(self) -> None:
        self._lab = Lab("home")
        self.replicas: list[Replica] = []

    def __enter__(self) -> Self:
        binaries.ensure()
        self._lab.__enter__()
        try:
            self._build()
        except BaseException:
            self._lab.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for replica in self.replicas:
            replica.process.stop()
        self._lab.close()

    def _build(self) -> None:
        for root in leftovers.cgroup1_roots():
            self._lab.at_end(leftovers.remove_cgroup1, root / self._lab.name)
        machine = Machine(self._lab, "control", 10)
        machine.build()
        self.control = Control(machine)
        self.control.start_server()
        self.create(*({"kind": "Namespace", "metadata": {"name": name}} for name in (HOME, "shop")))
        self.create(*accounts(Values()), *crds())
        self.create(*(account(name, "shop") for name in ("web", "db")))
        self.create(*({"kind": "Node", "metadata": {"name": name}} for name in ("node-a", "node-b")))

    @property
    def api(self) -> Api:
        return self.control.api

    @property
    def directory(self) -> Path:
        return self._lab.directory

    def create(self, *made: Object) -> list[Object]:
        return [self.api.create(path_of(each), each) for each in made]

    def exists(self, path: str) -> bool:
        try:
            self.api.get(path)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    # --- who comes

    def token(self, name: str, pod: Object | None = None, audience: str = "", namespace: str = HOME) -> str:
        """Of a service account, as kubelet would get it for a pod."""
        spec: Object = {"audiences": [audience] if audience else [], "expirationSeconds": 3600}
        if pod is not None:
            meta = pod["metadata"]
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        return str(self.api.create(path, {"spec": spec})["status"]["token"])

    def kubeconfig(self, name: str) -> Path:
        """Of a service account of ours."""
        config = json.loads(self.control.certificates.path("admin.conf").read_text())
        config["users"] = [{"name": each["name"], "user": {"token": self.token(name)}} for each in config["users"]]
        path = self.directory / f"{name}.conf"
        path.write_text(json.dumps(config))
        return path

    def agent(self, node: str) -> Object:
        """Its pod."""
        return self.create(pod(f"agent-{node}-{time.monotonic_ns()}", HOME, "seine-agent", node))[0]

    def remote(self, replica: Replica, node: str, token: str) -> Remote:
        """As the agent of a node asks, with the agent's own rights for the bundle of roots."""
        path = self.directory / f"{node}.token"
        path.write_text(token)
        config = AgentConfig(
            kubeconfig=str(self.kubeconfig("seine-agent")), namespace=HOME, authority_bundle=ROOTS_BUNDLE, node=node
        )
        return Remote(f"https://localhost:{replica.port}", node, path, open_roots(config), time.time)

    def agents_remote(self, replica: Replica, node: str) -> Remote:
        return self.remote(replica, node, self.token("seine-agent", self.agent(node), AUTHORITY_AUDIENCE))

    # --- replicas

    def start(self, name: str, **settings: str) -> Replica:
        port, admin_port = free_ports(2)
        environment = {
            "SEINE_NAME": name,
            "SEINE_ADDRESS": "127.0.0.1",
            "SEINE_PORT": str(port),
            "SEINE_ADMIN_PORT": str(admin_port),
            "SEINE_RUN_ROOT": str(self.directory / name),
            "SEINE_SETTLE_SECONDS": "1",
            leftovers.MARK: self._lab.name,
            **settings,
        }
        kubeconfig = f"--kubeconfig={self.kubeconfig('seine-controller')}"
        command = [sys.executable, "-m", "mesh.cli", "controller", kubeconfig]
        process = spawn.spawn(command, self._lab.log_path(name), env=environment)
        self.replicas.append(Replica(process, name, port, admin_port))
        return self.replicas[-1]

    def leader(self, among: Iterable[Replica], seconds: float = 40.0) -> Replica:
        """The one that leads; a dead one's term has to end first."""
        waiting = list(among)
        eventually(lambda: [each for each in waiting if each.ready() and each.leads()], "a leader", seconds)
        return next(each for each in waiting if each.leads())


def path_of(made: Object) -> str:
    return f"/{PLURALS[made['kind']].replace('NS', made['metadata'].get('namespace', ''))}"


def account(name: str, namespace: str) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}


def pod(name: str, namespace: str, service_account: str, node: str, **labels: str) -> Object:
    spec: dict[str, Any] = {
        "serviceAccountName": service_account,
        "nodeName": node,
        "automountServiceAccountToken": False,
        "containers": [{"name": "app", "image": "seine.test/none:1"}],
    }
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def free_ports(count: int) -> list[int]:
    """Free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
