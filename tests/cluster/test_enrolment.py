"""Every kind of pod that people have, in and out of the mesh, on real nodes: from its first packet to its last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2 import IPRoute

from mesh.cni.conflist import TYPE
from tests.cluster.cluster import Cluster
from tests.cluster.mesh import HOME, agent_of, captured, install, seine, status, uninstall
from tests.cluster.node import CNI_BIN, Node, bridge_network
from tests.cluster.test_cluster import WEB
from tests.kit.network import netlink
from tests.kit.wait import eventually

SECONDS = 60.0  # a pod takes two on an idle machine
NODE = "node-a"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: NAMESPACE, labels: {app: NAME}, annotations: {}}
spec:
  nodeName: node-a
  terminationGracePeriodSeconds: 1
  restartPolicy: OnFailure
  containers:
    - name: app
      image: seine.test/tools:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, 'mkdir /www; hostname > /www/index.html; exec /bin/busybox httpd -f -p 80 -h /www']
"""
Object = dict[str, Any]


@pytest.fixture(scope="module")
def mesh(loaded: Cluster) -> Iterator[Cluster]:
    install(loaded)
    yield loaded
    uninstall(loaded)
    for node in loaded.nodes.values():
        assert TYPE not in node.network_file.read_text(), "an uninstalled mesh is in nobody's way"
        assert not node.machine.path(f"{CNI_BIN}/{TYPE}").exists()


@pytest.fixture
def home(mesh: Cluster, namespace: str) -> str:
    """A namespace in the mesh, with a Deployment `web` of two pods behind a Service on port 8080."""
    mesh.apply(seine("enroll", namespace))
    mesh.apply(WEB.replace("NAMESPACE", namespace).replace("replicas: 4", "replicas: 2"))
    mesh.wait_rollout("deployment/web", namespace)
    return namespace


class Pods:
    """Pods of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def make(self, name: str, ready: bool = True, **spec: Any) -> None:
        """`annotations` and fields of the container or the pod."""
        import yaml

        made = yaml.safe_load(POD.replace("NAMESPACE", self.namespace).replace("NAME", name))
        made["metadata"]["annotations"] = spec.pop("annotations", {})
        made["spec"]["containers"][0] |= spec.pop("container", {})
        made["spec"] |= spec
        self.cluster.apply(yaml.safe_dump(made))
        if ready:
            self.wait(name)

    def wait(self, name: str, condition: str = "condition=Ready") -> None:
        limit = f"--timeout={SECONDS:g}s"
        self.cluster.kubectl(
            "wait", "-n", self.namespace, f"pod/{name}", f"--for={condition}", limit, timeout=SECONDS + 5
        )

    def get(self, name: str) -> Object:
        return self.cluster.api.get(f"/api/v1/namespaces/{self.namespace}/pods/{name}")

    def addresses(self, name: str) -> list[str]:
        return [each["ip"] for each in self.get(name)["status"]["podIPs"]]

    def delete(self, name: str, grace_seconds: int | None = None) -> None:
        self.cluster.api.delete(f"/api/v1/namespaces/{self.namespace}/pods/{name}", grace_seconds)

    def ask(self, name: str, url: str) -> str:
        """What a pod hears; RuntimeError when it hears nothing."""
        command = ("/usr/bin/curl", "-sS", "--max-time", "3", url)
        return self.cluster.exec(name, *command, namespace=self.namespace).strip()

    def hears(self, name: str, url: str) -> str:
        try:
            return self.ask(name, url)
        except RuntimeError:
            return ""

    def wait_heard(self, name: str, url: str, answer: str) -> None:
        """ "": until nobody answers."""
        eventually(lambda: self.hears(name, url) == answer, f"{url} to answer {answer!r} to {name}", SECONDS)

    def status(self, name: str, node: str = NODE) -> Object:
        """As its node's agent has it; empty: it is not in the mesh."""
        found = status(self.cluster, node)["pods"]
        return next((each for each in found if (each["namespace"], each["name"]) == (self.namespace, name)), {})

    def is_captured(self, name: str) -> bool:
        return bool(self.status(name).get("state") == "captured")


@pytest.fixture
def pods(mesh: Cluster, home: str) -> Pods:
    return Pods(mesh, home)


def url(name: str, port: int = 8080) -> str:
    return f"http://{name}:{port}/"


def announced(cluster: Cluster, result: str, node: str = NODE) -> int:
    return int((status(cluster, node)["cni"] or {}).get("counts", {}).get(result, 0))


def test_an_init_containers_first_packet_is_carried_and_its_pod_is_captured(mesh: Cluster, pods: Pods) -> None:
    before = announced(mesh, "enrolled")
    tool = {"image": "seine.test/tools:1", "imagePullPolicy": "Never", "name": "first"}
    fetching = ["/usr/bin/curl", "-sS", "--retry", "5", "--retry-all-errors", "--max-time", "3", url("web")]
    pods.make("early", initContainers=[{**tool, "command": fetching}])
    said = pods.status("early")
    assert said["captured"] >= 1, said
    assert said["kernel"]["direct_unknown"] <= said["kernel"]["captured"], (
        said
    )  # names are asked by UDP, which is not ours
    assert announced(mesh, "enrolled") == before + 1
    web = {pod["metadata"]["name"] for pod in mesh.pods(pods.namespace, "app=web")}
    assert mesh.kubectl("logs", "-n", pods.namespace, "early", "-c", "first").strip() in web
    eventually(lambda: pods.is_captured("early"), "the proof", SECONDS)


def test_a_job_finishes_and_leaves_the_mesh(mesh: Cluster, pods: Pods) -> None:
    before = announced(mesh, "enrolled")
    pods.make("job", ready=False, restartPolicy="Never", container={"command": ["/usr/bin/curl", "-sS", url("web")]})
    pods.wait("job", "jsonpath={.status.phase}=Succeeded")
    assert announced(mesh, "enrolled") == before + 1
    eventually(lambda: not pods.status("job"), "it to leave", SECONDS)


def test_a_host_network_pod_is_refused_with_the_reason(pods: Pods) -> None:
    pods.make("host", hostNetwork=True, container={"command": ["/bin/busybox", "sleep", "600"]})
    said = eventually(lambda: pods.status("host"), "the refusal", SECONDS)
    assert said["state"] == "refused"
    assert "hostNetwork" in said["detail"]


def test_a_pod_calls_itself_and_its_own_service(mesh: Cluster, pods: Pods) -> None:
    pods.make("own")
    service = {"selector": {"app": "own"}, "ports": [{"port": 8080, "targetPort": 80}]}
    mesh.api.create(f"/api/v1/namespaces/{pods.namespace}/services", {"metadata": {"name": "mine"}, "spec": service})
    assert pods.ask("own", url("127.0.0.1", 80)) == "own"
    assert pods.ask("own", url(pods.addresses("own")[0], 80)) == "own"
    pods.wait_heard("own", url("mine"), "own")


def test_both_families_are_carried(mesh: Cluster, pods: Pods) -> None:
    pods.make("client")
    service = mesh.api.get(f"/api/v1/namespaces/{pods.namespace}/services/web")
    eventually(lambda: pods.is_captured("client"), "the proof", SECONDS)
    web = {pod["metadata"]["name"]: pod for pod in mesh.pods(pods.namespace, "app=web")}
    for address in service["spec"]["clusterIPs"]:
        host = f"[{address}]" if ":" in address else address
        before = pods.status("client")["kernel"]["captured"]
        assert pods.ask("client", url(host)) in web
        assert pods.status("client")["kernel"]["captured"] > before, address
    for name, pod in web.items():
        for address in (each["ip"] for each in pod["status"]["podIPs"]):
            host = f"[{address}]" if ":" in address else address
            assert pods.ask("client", url(host, 80)) == name


STATEFUL = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: NAMESPACE}
spec: {clusterIP: None, selector: {app: db}, ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: NAMESPACE}
spec:
  serviceName: db
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: db
          image: seine.test/tools:1
          imagePullPolicy: Never
          command: [/bin/sh, -c, 'mkdir /www; hostname > /www/index.html; exec /bin/busybox httpd -f -p 80 -h /www']
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: NAMESPACE}
spec: {type: ExternalName, externalName: web.NAMESPACE.svc.cluster.local}
"""


def test_pods_of_a_statefulset_are_reached_by_their_own_names_and_an_externalname_leads_on(
    mesh: Cluster, pods: Pods
) -> None:
    mesh.apply(STATEFUL.replace("NAMESPACE", pods.namespace))
    mesh.wait_rollout("statefulset/db", pods.namespace)
    pods.make("client")
    for name in ("db-0", "db-1"):
        pods.wait_heard("client", url(f"{name}.db", 80), name)
    before = pods.status("client")["kernel"]["captured"]
    assert pods.ask("client", url("db-1.db", 80)) == "db-1"
    assert pods.ask("client", url("db", 80)) in ("db-0", "db-1")
    web = {pod["metadata"]["name"] for pod in mesh.pods(pods.namespace, "app=web")}
    assert pods.ask("client", url("elsewhere")) in web
    assert pods.status("client")["kernel"]["captured"] >= before + 3


def test_labels_are_put_on_and_off_a_running_pod(mesh: Cluster, pods: Pods) -> None:
    pods.make("moody")
    place = f"/api/v1/namespaces/{pods.namespace}/pods/moody"
    eventually(lambda: pods.is_captured("moody"), "it to be in by its namespace", SECONDS)
    mesh.api.merge(place, {"metadata": {"labels": {"seine.dev/mesh": "disabled"}}})
    eventually(lambda: not pods.status("moody"), "it to be out", SECONDS)
    assert pods.ask("moody", url("web"))
    mesh.api.merge(place, {"metadata": {"labels": {"seine.dev/mesh": "enabled"}}})
    eventually(lambda: pods.is_captured("moody"), "it to be in again", SECONDS)
    assert pods.ask("moody", url("web"))
    assert pods.get("moody")["status"]["containerStatuses"][0]["restartCount"] == 0


# --- probes

PROBE = {"httpGet": {"port": 80}, "periodSeconds": 1, "failureThreshold": 1}


@pytest.fixture
def no_workers(mesh: Cluster) -> Iterator[None]:
    """They leave both nodes, and come back."""
    place = f"/apis/apps/v1/namespaces/{HOME}/daemonsets/seine-worker"
    nowhere = {"seine.test/nowhere": "true"}
    mesh.api.merge(place, {"spec": {"template": {"spec": {"nodeSelector": nowhere}}}})
    for pod in mesh.pods(HOME, "app.kubernetes.io/name=seine-worker"):
        mesh.api.delete(f"/api/v1/namespaces/{HOME}/pods/{pod['metadata']['name']}", 0)
    eventually(lambda: not mesh.pods(HOME, "app.kubernetes.io/name=seine-worker"), "the workers to go", SECONDS)
    yield
    mesh.api.merge(place, {"spec": {"template": {"spec": {"nodeSelector": dict.fromkeys(nowhere)}}}})
    ready = f"--for=jsonpath={{.status.numberReady}}={len(mesh.nodes)}"
    mesh.kubectl("wait", "-n", HOME, "daemonset/seine-worker", ready, "--timeout=60s", timeout=65)


@pytest.fixture
def probed(pods: Pods) -> Pods:
    probes = {"livenessProbe": PROBE, "readinessProbe": PROBE}
    pods.make("closed", annotations={"seine.dev/fail": "closed"}, container=probes)
    pods.make("strict", annotations={"seine.dev/mtls": "strict"}, container=probes)
    pods.make("other")
    return pods


def passed(pods: Pods, name: str) -> int:
    return int(pods.status(name)["kernel"]["inbound_kubelet"])


def is_well(pods: Pods, name: str) -> bool:
    said = pods.get(name)["status"]
    ready = next(each["status"] for each in said["conditions"] if each["type"] == "Ready")
    return bool(ready == "True" and said["containerStatuses"][0]["restartCount"] == 0)


def test_kubelet_probes_closed_and_strict_pods(probed: Pods) -> None:
    for name in ("closed", "strict"):
        assert passed(probed, name) >= 1, "that it is ready was learned so"


def test_kubelet_probes_them_while_no_worker_lives_and_nobody_else_does(probed: Pods, no_workers: None) -> None:
    for name in ("closed", "strict"):
        probed.wait_heard("other", url(probed.addresses(name)[0], 80), "")
        wait_passed(probed, name, passed(probed, name) + 5)
        assert is_well(probed, name)


def wait_passed(pods: Pods, name: str, count: int) -> None:
    eventually(lambda: passed(pods, name) >= count, f"probes of {name}", SECONDS)


# --- agents that are away, addresses that come again, configurations that others write


@pytest.fixture
def no_agents(mesh: Cluster) -> Iterator[None]:
    place = f"/apis/apps/v1/namespaces/{HOME}/daemonsets/seine-agent"
    nowhere = {"seine.test/nowhere": "true"}
    mesh.api.merge(place, {"spec": {"template": {"spec": {"nodeSelector": nowhere}}}})
    eventually(lambda: not mesh.pods(HOME, "app.kubernetes.io/name=seine-agent"), "the agents to go", SECONDS)
    yield
    back(mesh)


def back(mesh: Cluster) -> None:
    place = f"/apis/apps/v1/namespaces/{HOME}/daemonsets/seine-agent"
    mesh.api.merge(place, {"spec": {"template": {"spec": {"nodeSelector": {"seine.test/nowhere": None}}}}})
    mesh.wait_rollout("daemonset/seine-agent", HOME)


def test_without_an_agent_open_pods_start_and_closed_ones_wait(mesh: Cluster, pods: Pods, request) -> None:
    closed = {"metadata": {"annotations": {"seine.dev/fail": "closed"}}}
    bank = f"{pods.namespace}-bank"
    mesh.api.create("/api/v1/namespaces", {"metadata": {"name": bank}})
    request.addfinalizer(lambda: mesh.api.delete(f"/api/v1/namespaces/{bank}"))
    mesh.apply(seine("enroll", bank))
    mesh.api.merge(f"/api/v1/namespaces/{bank}", closed)
    rules = mesh.nodes[NODE].machine.path("/var/lib/seine/cni.rules")
    eventually(lambda: f"closed {bank}\n" in rules.read_text(), "the rules", SECONDS)
    request.getfixturevalue("no_agents")
    pods.make("open")
    vault = Pods(mesh, bank)
    vault.make("vault", ready=False)

    def why() -> bool:
        events = mesh.api.items(f"/api/v1/namespaces/{bank}/events?fieldSelector=involvedObject.name%3Dvault")
        return any("may start outside of the mesh" in each["message"] for each in events)

    eventually(why, "kubelet to say why the pod waits", SECONDS)
    back(mesh)
    vault.wait("vault")
    assert vault.status("vault")["fail_mode"] == "closed"
    eventually(lambda: pods.is_captured("open") and vault.is_captured("vault"), "both to be captured", SECONDS)


def forget_neighbour(node: Node, address: str) -> None:
    """The bridge plugin leaves the former pod in the node's table: some seconds without an answer, mesh or no mesh."""

    def forget(ip: IPRoute) -> None:
        for each in ip.get_neighbours(dst=address):
            ip.neigh("del", dst=address, ifindex=each["ifindex"])

    netlink(node.machine.netns, forget)


def test_an_address_that_comes_again_within_seconds_is_the_new_pods(mesh: Cluster, pods: Pods, request) -> None:
    node = mesh.nodes["node-b"]
    network = node.network_file
    entries = json.loads(network.read_text())["plugins"][1:]
    assert [each["type"] for each in entries] == [TYPE]
    few = json.dumps(bridge_network(node.pods, few=True))
    request.addfinalizer(lambda: network.write_text(json.dumps(bridge_network(node.pods))))
    network.write_text(few)
    eventually(lambda: json.loads(network.read_text())["plugins"][1:] == entries, "our entry to be put back", SECONDS)
    pods.make("client")
    web = mesh.api.get(f"/api/v1/namespaces/{pods.namespace}/services/web")["spec"]["clusterIP"]
    before, seen = announced(mesh, "enrolled", "node-b"), []
    for number in range(6):
        name = f"short-{number}"
        pods.make(name, nodeName="node-b")
        address = pods.addresses(name)[0]
        seen.append(address)
        forget_neighbour(node, address)
        assert pods.ask("client", url(address, 80)) == name
        assert pods.ask(name, url(web)), "by its address: the names' server may know the former pod's hardware address"
        assert pods.status(name, "node-b")["captured"] >= 1
        pods.delete(name, grace_seconds=0)
    assert len(set(seen)) <= 4 < len(seen), seen
    assert announced(mesh, "enrolled", "node-b") == before + 6
    eventually(
        lambda: not {each for each in captured(mesh, pods.namespace) if each.startswith("short")}, "them to go", 30
    )


def test_whoever_rewrites_the_configuration_is_told_of(mesh: Cluster) -> None:
    node = mesh.nodes[NODE]
    before = status(mesh, NODE)["cni"]["repairs_total"]
    node.network_file.write_text(json.dumps(bridge_network(node.pods)))
    eventually(lambda: TYPE in node.network_file.read_text(), "our entry to be back", SECONDS)
    eventually(lambda: status(mesh, NODE)["cni"]["repairs_total"] == before + 1, "the repair to be told", SECONDS)
    log = mesh.kubectl("logs", "-n", HOME, agent_of(mesh, NODE))
    assert "had lost our entry" in log
