"""The mesh as people use it: installed by what `seine install` prints, a namespace taken in by a label."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.image import build
from tests.cluster.cluster import Cluster
from tests.cluster.test_cluster import WEB, fetch
from tests.kit.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
HOME = "seine-system"
CAPTURED_SECONDS = 30.0  # a new pod is looked for once a second, and proven within five


def seine(*arguments: str) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "mesh.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def mesh(loaded: Cluster) -> Iterator[Cluster]:
    loaded.apply(seine("install", "--set", f"image={build.NAME}", "--set", "pull_policy=Never"))
    loaded.wait_rollout("daemonset/seine-agent", HOME)
    ready = f"--for=jsonpath={{.status.numberReady}}={len(loaded.nodes)}"
    loaded.kubectl("wait", "-n", HOME, "daemonset/seine-worker", ready, "--timeout=60s")
    yield loaded
    loaded.kubectl("delete", "--ignore-not-found", "-f", "-", text=seine("uninstall"))


def agent_of(cluster: Cluster, node: str) -> str:
    pods = cluster.pods(HOME, "app.kubernetes.io/name=seine-agent")
    return next(str(pod["metadata"]["name"]) for pod in pods if pod["spec"]["nodeName"] == node)


def status(cluster: Cluster, node: str) -> dict[str, Any]:
    command = ["seine", "status", "--window", "0", "-o", "json"]
    found: dict[str, Any] = json.loads(cluster.exec(agent_of(cluster, node), *command, namespace=HOME))
    return dict(found["status"])


def captured(cluster: Cluster, namespace: str) -> set[str]:
    """Names of pods that their agents have proven to be."""
    found = (pod for node in cluster.nodes for pod in status(cluster, node)["pods"])
    return {pod["name"] for pod in found if pod["namespace"] == namespace and pod["state"] == "captured"}


def test_a_labelled_namespace_is_in_the_mesh_on_every_node_and_nothing_was_restarted(mesh, namespace):
    mesh.apply(WEB.replace("NAMESPACE", namespace))
    mesh.wait_rollout("deployment/web", namespace)
    pods = {pod["metadata"]["name"]: pod for pod in mesh.pods(namespace)}
    mesh.apply(seine("enroll", namespace))
    eventually(lambda: captured(mesh, namespace) == set(pods), "all pods to be captured", CAPTURED_SECONDS)
    before = carried(mesh, namespace)
    service = mesh.api.get(f"/api/v1/namespaces/{namespace}/services/web")["spec"]["clusterIPs"][0]
    answers = {fetch(mesh, namespace, f"http://{service}:8080/") for _ in range(20)}
    assert answers <= set(pods)
    assert len(answers) > 1
    assert carried(mesh, namespace) >= before + 20
    now = {pod["metadata"]["name"]: pod["status"]["containerStatuses"][0] for pod in mesh.pods(namespace)}
    assert now.keys() == pods.keys()
    assert all(container["restartCount"] == 0 for container in now.values())
    mesh.apply(seine("unenroll", namespace))
    eventually(lambda: not captured(mesh, namespace), "no pod to be captured", CAPTURED_SECONDS)
    assert fetch(mesh, namespace, f"http://{service}:8080/") in pods


def test_the_api_server_takes_what_kustomize_makes(mesh):
    mesh.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", str(ROOT / "deploy/base"))


def carried(cluster: Cluster, namespace: str) -> int:
    """Connections of the namespace's pods that went through workers."""
    pods = (pod for node in cluster.nodes for pod in status(cluster, node)["pods"])
    return sum(pod["captured"] for pod in pods if pod["namespace"] == namespace)


def test_workers_have_no_privilege_and_outlive_the_agents_pod(mesh):
    node = next(iter(mesh.nodes))
    before = [worker["pid"] for worker in status(mesh, node)["workers"]]
    pod = agent_of(mesh, node)
    mesh.kubectl("delete", "pod", "-n", HOME, pod, "--wait=true")
    mesh.wait_rollout("daemonset/seine-agent", HOME)
    assert agent_of(mesh, node) != pod
    assert [worker["pid"] for worker in status(mesh, node)["workers"]] == before
    worker = next(
        each for each in mesh.pods(HOME, "app.kubernetes.io/name=seine-worker") if each["spec"]["nodeName"] == node
    )
    lines = mesh.exec(
        worker["metadata"]["name"], "grep", "-E", "^(Uid|CapEff|CapBnd|Seccomp):", "/proc/1/status", namespace=HOME
    )
    facts = dict(line.split(":") for line in lines.splitlines())
    assert facts["Uid"].split() == ["65532"] * 4
    assert int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0
    assert facts["Seccomp"].strip() == "2"
