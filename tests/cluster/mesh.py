"""Seine in a cluster as its users put it there: by what `seine install` prints, from an image that every node has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from deploy.image import build
from tests.cluster.cluster import Cluster
from tests.cluster.kubernetes import Kubernetes

ROOT = Path(__file__).resolve().parents[2]
HOME = "seine-system"
READY_SECONDS = 120.0  # 15 s on an idle machine


def seine(*arguments: str) -> str:
    """What the command prints."""
    done = run(*arguments)
    if done.returncode:
        raise RuntimeError(f"seine {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def run(*arguments: str, cluster: Kubernetes | None = None) -> subprocess.CompletedProcess[str]:
    """As an operator does who has the cluster's kubectl and kubeconfig."""
    environment = dict(os.environ)
    if cluster is not None:
        environment["KUBECONFIG"] = str(cluster.kubeconfig)
        environment["PATH"] = f"{cluster.program.parent}:{environment['PATH']}"
    command = [sys.executable, "-m", "mesh.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


def load(cluster: Cluster) -> None:
    """The image, on every node."""
    cluster.load([build.build(cluster.lab.directory / "seine.tar")])


def install(cluster: Kubernetes, *arguments: str) -> None:
    cluster.apply(seine("install", *arguments))
    wait_ready(cluster)


def wait_ready(cluster: Kubernetes) -> None:
    """Until everything of ours runs on every node."""
    for kind in ("daemonsets", "deployments"):
        for each in cluster.api.items(f"/apis/apps/v1/namespaces/{HOME}/{kind}"):
            name = each["metadata"]["name"]
            if each["spec"].get("updateStrategy", {}).get("type") == "OnDelete":  # no rollout to be waited for
                ready = f"--for=jsonpath={{.status.numberReady}}={len(cluster.nodes)}"
                limit = f"--timeout={READY_SECONDS:g}s"
                cluster.kubectl("wait", "-n", HOME, f"{kind}/{name}", ready, limit, timeout=READY_SECONDS + 5)
            else:
                cluster.wait_rollout(f"{kind}/{name}", HOME, READY_SECONDS)


def uninstall(cluster: Kubernetes, *arguments: str) -> None:
    cluster.kubectl("delete", "--ignore-not-found", "-f", "-", text=seine("uninstall", *arguments), timeout=120)


def agent_of(cluster: Kubernetes, node: str) -> str:
    """Its pod's name."""
    pods = cluster.pods(HOME, "app.kubernetes.io/name=seine-agent")
    return next(str(pod["metadata"]["name"]) for pod in pods if pod["spec"]["nodeName"] == node)


def status(cluster: Kubernetes, node: str) -> dict[str, Any]:
    command = ["seine", "status", "--window", "0", "-o", "json"]
    found: dict[str, Any] = json.loads(cluster.exec(agent_of(cluster, node), *command, namespace=HOME))
    return dict(found["status"])


def captured(cluster: Kubernetes, namespace: str) -> set[str]:
    """Names of pods that their agents have proven to be."""
    found = (pod for node in cluster.nodes for pod in status(cluster, node)["pods"])
    return {pod["name"] for pod in found if pod["namespace"] == namespace and pod["state"] == "captured"}
