"""The cluster itself: what tests take for granted, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.kit import leftovers
from tests.kit.wait import eventually

ROOT = Path(__file__).resolve().parents[2]

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: NAMESPACE}
spec:
  replicas: 4
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule,
           labelSelector: {matchLabels: {app: web}}}
      containers:
        - name: web
          image: seine.test/tools:1
          imagePullPolicy: Never
          command: [/bin/sh, -c, 'mkdir /www; hostname > /www/index.html; exec /bin/busybox httpd -f -p 80 -h /www']
          readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: NAMESPACE}
spec: {selector: {app: web}, ipFamilyPolicy: RequireDualStack, ports: [{port: 8080, targetPort: 80}]}
"""


@pytest.fixture
def web(cluster: Cluster, namespace: str) -> str:
    cluster.apply(WEB.replace("NAMESPACE", namespace))
    cluster.wait_rollout("deployment/web", namespace)
    return namespace


def fetch(cluster: Cluster, namespace: str, url: str) -> str:
    """As the first pod hears it."""
    pod = cluster.pods(namespace)[0]["metadata"]["name"]
    return cluster.exec(pod, "/usr/bin/curl", "-sS", "--max-time", "3", url, namespace=namespace).strip()


def answer(cluster: Cluster, namespace: str, url: str) -> str:
    """Empty as long as there is none."""
    try:
        return fetch(cluster, namespace, url)
    except RuntimeError:
        return ""


def test_pods_of_a_deployment_spread_over_both_nodes_and_are_reached_by_name_and_address(cluster, web):
    pods = cluster.pods(web)
    names = {pod["metadata"]["name"] for pod in pods}
    assert {pod["spec"]["nodeName"] for pod in pods} == set(cluster.nodes)
    name = f"http://web.{web}.svc.cluster.local:8080/"
    assert eventually(lambda: answer(cluster, web, name), "kube-proxy to know the names' server") in names
    for pod in pods:
        for address in (one["ip"] for one in pod["status"]["podIPs"]):
            host = f"[{address}]" if ":" in address else address
            assert fetch(cluster, web, f"http://{host}/") == pod["metadata"]["name"]


def test_a_service_answers_at_both_its_addresses(cluster, web):
    service = cluster.api.get(f"/api/v1/namespaces/{web}/services/web")
    first, second = service["spec"]["clusterIPs"]
    assert ":" not in first
    assert ":" in second
    for host in (first, f"[{second}]"):
        eventually(partial(answer, cluster, web, f"http://{host}:8080/"), f"kube-proxy to know {host}")


def test_nobody_may_do_more_than_his_role(cluster, namespace):
    account = f"system:serviceaccount:{namespace}:default"
    said = cluster.kubectl("auth", "can-i", "--as", account, "--list", "-n", namespace)
    assert "pods" not in said
    with pytest.raises(RuntimeError, match="forbidden"):
        cluster.kubectl("get", "pods", "--as", account, "-n", namespace)


def test_every_request_is_in_the_audit_log(cluster, namespace):
    question = f'"/api/v1/namespaces/{namespace}/podtemplates'  # of which nobody else asks
    assert question not in cluster.control.audit_log.read_text()
    cluster.kubectl("get", "podtemplates", "-n", namespace)
    assert question in cluster.control.audit_log.read_text()


KILLED = """
import sys
from tests.cluster.cluster import Cluster
with Cluster("killed") as cluster:
    cluster.apply(sys.argv[1])
    cluster.wait_rollout("deployment/web", timeout=60)
    print("up", flush=True)
    sys.stdin.read()
"""


def test_a_cluster_that_was_killed_is_swept_with_its_containers():
    """Beside the cluster of the other tests, which must not notice."""
    command = [sys.executable, "-c", KILLED, WEB.replace("NAMESPACE", "default")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdin is not None
    with process.stdout, process.stdin:
        assert process.stdout.readline() == b"up\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert any("process" in line for line in leftovers.leftovers(process.pid))
    leftovers.sweep()
    assert leftovers.leftovers(process.pid) == []
