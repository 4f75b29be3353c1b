"""Where an agent meets a large cluster: etcd and an API server on a machine of the lab, everything in them, and the
node's pods as kubelet and a CNI would have left them.

There is no kubelet and no controller: what is written stays as it was written. The agent is who it is in a real
cluster, a service account with the rights of an installation and no other.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from mesh.install.accounts import accounts
from mesh.install.objects import crds
from mesh.install.values import Values
from tests.bench.app import HTTP_PORT
from tests.bench.app import Nginx as Quick
from tests.bench.scale.objects import (
    NAMESPACES,
    Object,
    Size,
    endpoint,
    endpoint_slice,
    namespace_of,
    pieces,
    service,
    service_name,
    services_path,
    slices_path,
)
from tests.bench.scale.writer import Write, write_all
from tests.cluster import binaries
from tests.cluster.control import Control
from tests.cluster.machine import Machine
from tests.kit import leftovers
from tests.kit.apps import Nginx
from tests.kit.kubelet import Kubelet
from tests.kit.lab import Lab, Pod
from tests.kit.manifests import Manifests

HOME = "shop"  # the namespace of the node's pods
MACHINE_HOST = 250  # on the lab's segment, behind the pods
PROBES = 8  # Services whose endpoint changes between the pods `a` and `b`
TOKEN_SECONDS = 36000
Say = Callable[[str], None]


class Town:
    def __init__(self, lab: Lab, size: Size, say: Say) -> None:
        self.lab, self.size, self._say = lab, size, say
        self.pieces = list(pieces(size))
        for root in leftovers.cgroup1_roots():
            lab.at_end(leftovers.remove_cgroup1, root / lab.name)
        self.node = dataclasses.replace(lab.node, name=f"{lab.name}-node")  # its processes are told from the server's
        self._machine = Machine(lab, "control", MACHINE_HOST)
        self.kubeconfig = lab.directory / "agent.conf"
        self.pods: list[Pod] = []
        self.vips: list[str] = []  # of the probes' Services
        self.load_vip = ""
        self._second = [False] * PROBES  # it is `b` who answers
        self._newcomers = count(size.endpoints)

    def build(self) -> None:
        binaries.ensure()
        self._machine.build()
        self.control = Control(self._machine)
        self._say("starting etcd and the API server")
        self.control.start_server()
        self._say(f"making {self.size.pods} pods")
        self._install()
        self._make_pods()
        size = self.size
        self._say(f"writing {size.services} Services and {len(self.pieces)} slices with {size.endpoints} endpoints")
        write_all(self.control.api, self._crowd())
        self._make_services()

    # --- the installation

    def _install(self) -> None:
        names = ["seine-system", HOME, *(namespace_of(number) for number in range(NAMESPACES))]
        for name in names:
            labels = {"seine.dev/mesh": "enabled"} if name == HOME else {}
            self._post("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        self._post(f"/api/v1/namespaces/{HOME}/serviceaccounts", {"metadata": {"name": "default"}})
        for made in accounts(Values()):
            self._post(_collection(made), made)
        for made in crds():
            self._post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", made)
        address = {"type": "InternalIP", "address": self.lab.node.subnet.ip(1)}
        node = {"metadata": {"name": self.node.name, "labels": {"topology.kubernetes.io/zone": "zone-0"}}}
        self._post("/api/v1/nodes", {**node, "status": {"addresses": [address]}})
        self._write_kubeconfig()

    def _write_kubeconfig(self) -> None:
        path = "/api/v1/namespaces/seine-system/serviceaccounts/seine-agent/token"
        token = self._post(path, {"spec": {"expirationSeconds": TOKEN_SECONDS}})["status"]["token"]
        authority = base64.b64encode(self.control.certificates.path("ca.crt").read_bytes()).decode()
        config = json.loads(self.control.certificates.path("admin.conf").read_text())
        config["clusters"][0]["cluster"]["certificate-authority-data"] = authority
        config["users"][0]["user"] = {"token": token}
        self.kubeconfig.write_text(json.dumps(config))

    def _post(self, path: str, made: Object) -> dict[str, Any]:
        return self.control.api.create(path, made)

    # --- the node's pods

    def _make_pods(self) -> None:
        undo = ExitStack()
        self.lab.at_end(undo.close)
        for number in range(self.size.pods):
            pod = self.lab.pod(f"pod-{number:02}")
            self.pods.append(pod)
            uid = self._publish(pod)
            Kubelet(self.lab.cgroup, "cgroupfs", undo, uid).container("pause", pod)
        for pod in (self.a, self.b):
            Nginx(pod, HTTP_PORT)
        Quick(self.server)

    def _publish(self, pod: Pod) -> str:
        """Its object, running; the uid that the API server gave it."""
        path = f"/api/v1/namespaces/{HOME}/pods"
        meta = {"name": pod.name, "labels": {"app": pod.name}}
        spec = {"nodeName": self.node.name, "containers": [{"name": "app", "image": "none"}]}
        made = self._post(path, {"metadata": meta, "spec": spec})
        addresses = [{"ip": each} for each in (pod.ip, pod.ip6) if each]
        status = {"status": {"phase": "Running", "podIP": pod.ip, "podIPs": addresses}}
        self.control.api.merge(f"{path}/{pod.name}/status", status)
        return str(made["metadata"]["uid"])

    @property
    def client(self) -> Pod:
        return self.pods[0]

    @property
    def a(self) -> Pod:
        return self.pods[1]

    @property
    def b(self) -> Pod:
        return self.pods[2]

    @property
    def server(self) -> Pod:
        return self.pods[3]

    # --- Services

    def _crowd(self) -> Iterator[Write]:
        for number in range(self.size.services):
            namespace = namespace_of(number)
            yield Write("POST", services_path(namespace), service(service_name(number), namespace, 80, 8080))
        for piece in self.pieces:
            yield Write("POST", slices_path(namespace_of(piece.service)), piece.object())

    def _make_services(self) -> None:
        for number in range(PROBES):
            self.vips.append(self._make_service(f"probe-{number}"))
            self._post(slices_path(HOME), self._slice(f"probe-{number}", self.a))
        self.load_vip = self._make_service("load")
        self._post(slices_path(HOME), self._slice("load", self.server))

    def _make_service(self, name: str) -> str:
        made = self._post(services_path(HOME), service(name, HOME, HTTP_PORT, HTTP_PORT))
        return str(made["spec"]["clusterIP"])

    def switch(self, number: int) -> tuple[Write, str]:
        """Behind a probe's Service is the other one from now on; and its name."""
        self._second[number] = not self._second[number]
        pod = self.b if self._second[number] else self.a
        made = self._slice(f"probe-{number}", pod)
        return Write("PUT", f"{slices_path(HOME)}/{made['metadata']['name']}", made), pod.name

    def _slice(self, name: str, pod: Pod) -> Object:
        found = endpoint(pod.ip, self.node.name, HOME, pod.name, "", "zone-0")
        del found["targetRef"]["uid"]
        return endpoint_slice(f"{name}-0", HOME, name, HTTP_PORT, [found])

    def crowd_change(self) -> Write:
        """One pod of the crowd was replaced by another."""
        newcomer = next(self._newcomers)
        number = newcomer * 7919 % len(self.pieces)  # a prime: the slices are met in no order
        piece = self.pieces[number]
        self.pieces[number] = changed = piece.changed(newcomer % len(piece.members), newcomer)
        return Write("PUT", changed.path, changed.object())


def _collection(made: Object) -> str:
    """Where an object of an installation is made."""
    version, kind = made["apiVersion"], made["kind"].lower()
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = made["metadata"].get("namespace")
    return f"{root}/namespaces/{namespace}/{kind}s" if namespace else f"{root}/{kind}s"


class OnServer(Manifests):
    """For an agent whose objects are on the API server: none are here."""

    def __init__(self, lab: Lab) -> None:
        self.directory, self.lab = Path("kubernetes"), lab


def requests_of(user: str, lines: Iterable[bytes], since: datetime) -> set[str]:
    """Ids of a user's requests that came since then, in an audit log. A long one has several entries."""
    found = set()
    for line in lines:
        if user.encode() in line:
            event = json.loads(line)
            began = datetime.fromisoformat(event["requestReceivedTimestamp"])
            if event["user"]["username"] == user and began >= since:
                found.add(str(event["auditID"]))
    return found
