"""KubernetesSource on a real API server: lists, watches, rights, definitions that come later, a restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import yaml

from mesh.config import ApiConfig
from mesh.kube.api import backoff
from mesh.kube.api.access import Kubeconfig
from mesh.kube.api.publication import ApiBoard
from mesh.kube.api.source import KubernetesSource
from mesh.model import Snapshot
from mesh.node import netns
from mesh.node.sandboxes import Sandboxes
from tests.cluster.cluster import Cluster
from tests.kit import leftovers
from tests.kit.builders import mesh_node
from tests.kit.kube_api import met
from tests.kit.wait import eventually

CRDS = Path(__file__).parents[2] / "deploy/crds"
CONFIG = ApiConfig(page_objects=3)
READER = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: NAMESPACE-reader}
rules:
  - {apiGroups: [""], resources: [services, pods, namespaces, nodes], verbs: [list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: NAMESPACE-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: NAMESPACE-reader}
subjects: [{kind: ServiceAccount, name: default, namespace: NAMESPACE}]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: NAMESPACE}
spec: {ports: [{name: http, port: 80}]}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME-x, namespace: NAMESPACE, labels: {kubernetes.io/service-name: NAME}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [ADDRESS]}]
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: here, namespace: NAMESPACE, labels: {seine.dev/mesh: enabled}}
spec:
  nodeName: node-a
  terminationGracePeriodSeconds: 1
  containers:
    - {name: app, image: 'seine.test/tools:1', imagePullPolicy: Never, command: [/bin/busybox, sleep, '600']}
"""


@pytest.fixture(autouse=True)
def _haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "SLOW_SECONDS", 0.5)
    monkeypatch.setattr(backoff, "MOST_SECONDS", 1.0)


class Told:
    """What a source said last."""

    def __init__(self, source: KubernetesSource) -> None:
        self.source, self.last = source, Snapshot()

    async def run(self) -> None:
        async for snapshot in self.source.watch():
            self.last = snapshot

    def addresses(self, namespace: str, name: str) -> list[str]:
        found = [each for each in self.last.services if (each.namespace, each.name) == (namespace, name)]
        return [each.address for service in found for port in service.ports for each in port.endpoints]

    def names(self, namespace: str) -> set[str]:
        return {each.name for each in self.last.services if each.namespace == namespace}

    def said(self, *words: str) -> bool:
        return any(all(word in each for word in words) for each in self.last.errors)

    def lists(self) -> dict[str, int]:
        return {each.kind.name: each.lists for each in self.source.watchers if not each.absent}


def follow(kubeconfig: Path, test: Callable[[Told], Awaitable[None]], streams: bool = True) -> None:
    async def body() -> None:
        told = Told(KubernetesSource(Kubeconfig(str(kubeconfig)), "node-a", CONFIG))
        for watcher in told.source.watchers:
            watcher.streams = streams
        task = asyncio.ensure_future(told.run())
        try:
            await met(lambda: told.last.hosts or task.done(), "the first snapshot")
            await test(told)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(body())


def made(text: str, namespace: str, name: str = "web", address: str = "10.1.2.3") -> str:
    return text.replace("NAMESPACE", namespace).replace("NAME", name).replace("ADDRESS", address)


@pytest.mark.parametrize("streams", [True, False], ids=["WatchList", "pages"])
def test_services_and_their_endpoints_are_followed(cluster: Cluster, namespace: str, streams: bool) -> None:
    for number in range(5):
        cluster.apply(made(SERVICE, namespace, f"web-{number}"))
    cluster.apply(made(SLICE, namespace, "web-0"))

    async def body(told: Told) -> None:
        assert told.names(namespace) == {f"web-{number}" for number in range(5)}
        assert told.addresses(namespace, "web-0") == ["10.1.2.3"]
        assert {"node-a", "node-b"} <= {each.name for each in told.last.hosts}
        await asyncio.to_thread(cluster.apply, made(SLICE, namespace, "web-0", "10.1.2.4"))
        await met(lambda: told.addresses(namespace, "web-0") == ["10.1.2.4"], "the change")
        await asyncio.to_thread(cluster.kubectl, "delete", "service", "web-4", "-n", namespace)
        await met(lambda: "web-4" not in told.names(namespace), "the Service to go")
        assert set(told.lists().values()) == {1}

    follow(cluster.kubeconfig, body, streams)


def test_what_we_may_not_read_is_told_and_the_rest_works(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    cluster.apply(made(READER, namespace))
    token = cluster.kubectl("create", "token", "default", "-n", namespace).strip()
    config = json.loads(cluster.kubectl("config", "view", "--raw", "-o", "json"))
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    (tmp_path / "config").write_text(json.dumps(config))

    async def body(told: Told) -> None:
        await met(lambda: told.said("forbids", "MeshNode"), "the refusal to be told")
        await asyncio.to_thread(cluster.apply, made(SERVICE, namespace, "late"))
        await met(lambda: "late" in told.names(namespace), "the Service")

    try:
        follow(tmp_path / "config", body)
    finally:
        cluster.kubectl("delete", "clusterrole,clusterrolebinding", f"{namespace}-reader")


def test_a_definition_that_is_installed_later_is_noticed_and_we_can_publish(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("delete", "crd", "meshnodes.seine.dev", "--ignore-not-found")

    async def body(told: Told) -> None:
        await met(lambda: told.said("MeshNode", "installed"), "the absence to be told")
        await asyncio.to_thread(cluster.kubectl, "apply", "-f", str(CRDS))
        await met(lambda: not told.said("installed"), "the definitions to be noticed")
        access = Kubeconfig(str(cluster.kubeconfig))
        boards = [ApiBoard(access, name, namespace, lambda: None) for name in ("node-a", "node-b")]
        for name, board in zip(("node-a", "node-b"), boards, strict=True):
            await board.say(mesh_node(name))
            await board.say(mesh_node(name))
        await met(lambda: [each.name for each in told.last.nodes] == ["node-b"], "the other node")
        assert told.source.own_mesh_node() is not None
        renewing = asyncio.ensure_future(boards[0].run())
        await met(lambda: cluster.api.items(f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"), "a Lease")
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        for board in boards:
            board.close()

    follow(cluster.kubeconfig, body)
    cluster.kubectl("delete", "-f", str(CRDS))


def test_an_object_in_etcd_that_breaks_our_schema_is_refused_alone(cluster: Cluster, namespace: str) -> None:
    """It came in under a definition that checked less than ours."""
    definition = yaml.safe_load((CRDS / "meshnodes.yaml").read_text())
    lax = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition["spec"]["versions"][0]["schema"] = lax
    node = {"apiVersion": "seine.dev/v1alpha1", "kind": "MeshNode"}
    odd = {**node, "metadata": {"name": "odd"}, "spec": {"workloads": "none"}}
    good = {**node, "metadata": {"name": "good"}, "spec": {"workloads": []}}

    async def body(told: Told) -> None:
        await asyncio.to_thread(cluster.kubectl, "wait", "crd/meshnodes.seine.dev", "--for=condition=Established")
        for each in (odd, good):
            await asyncio.to_thread(cluster.apply, json.dumps(each))
        await met(lambda: told.said("MeshNode odd", "schema"), "the refusal to be told")
        await met(lambda: [each.name for each in told.last.nodes] == ["good"], "the good one")
        await asyncio.to_thread(cluster.apply, made(SERVICE, namespace, "late"))
        await met(lambda: "late" in told.names(namespace), "the Service")
        await asyncio.to_thread(cluster.kubectl, "delete", "meshnode", "odd")
        await met(lambda: not told.said("MeshNode odd"), "the sentence to go with its object")

    cluster.kubectl("delete", "crd", "meshnodes.seine.dev", "--ignore-not-found")
    cluster.apply(json.dumps(definition))
    try:
        follow(cluster.kubeconfig, body)
    finally:
        cluster.kubectl("delete", "crd", "meshnodes.seine.dev")


def test_a_pod_of_a_real_node_is_found_by_its_uid(cluster: Cluster, namespace: str) -> None:
    cluster.apply(POD.replace("NAMESPACE", namespace))
    cluster.kubectl("wait", "pod/here", "--for=condition=Ready", "-n", namespace, "--timeout=60s")

    async def body(told: Told) -> None:
        await met(lambda: told.last.pods, "our pod")
        pod = told.last.pods[0]
        assert (pod.workload.name, pod.enrolled, pod.netns) == ("here", True, "")
        sandboxes = Sandboxes(leftovers.cgroup2_root())
        try:
            found = sandboxes.find([pod.workload.uid])[pod.workload.uid]
            assert set(pod.workload.addresses) <= set(netns.addresses(found.netns))
            assert pod.workload.uid.replace("-", "_") in found.cgroup.replace("-", "_")
            inode = netns.inode(found.netns)
            await asyncio.to_thread(cluster.kubectl, "delete", "pod", "here", "-n", namespace)
            await met(lambda: not told.last.pods, "the pod to go")
            await asyncio.to_thread(eventually, lambda: not sandboxes.find([pod.workload.uid]), "it to be let go", 30)
            assert netns.gone(found.netns, inode)
        finally:
            sandboxes.close()

    follow(cluster.kubeconfig, body)


def test_a_server_that_restarts_costs_one_list_of_a_kind_at_most(cluster: Cluster, namespace: str) -> None:
    cluster.apply(made(SERVICE, namespace, "before"))

    async def body(told: Told) -> None:
        await asyncio.to_thread(cluster.control.stop_server)
        await met(lambda: told.said("not told at present"), "the outage to be told")
        assert told.names(namespace) == {"before"}
        await asyncio.to_thread(cluster.control.start_again)
        await asyncio.to_thread(cluster.apply, made(SERVICE, namespace, "after"))
        await met(lambda: told.names(namespace) == {"before", "after"}, "the new Service")
        assert max(told.lists().values()) <= 2

    follow(cluster.kubeconfig, body)
