"""An installation comes and goes: what `seine check --pre` says before, and that nothing is left afterwards."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.mesh import HOME, ROOT, captured, install, run, seine, uninstall
from tests.cluster.node import Node
from tests.cluster.test_cluster import WEB, fetch
from tests.kit import leftovers
from tests.kit.wait import eventually

KINDS = "namespaces,clusterroles,clusterrolebindings,meshnodes.seine.dev,priorityclasses"


def test_before_an_installation_check_says_whether_it_can_be(loaded: Cluster) -> None:
    said = json.loads(run("check", "--cluster", "--pre", "-o", "json", cluster=loaded).stdout)
    assert said["success"], said
    names = {each["description"] for part in said["categories"] for each in part["checks"]}
    assert {"can create daemonsets", "kernels of all nodes are 6.1 or later", f"namespace {HOME} is free"} <= names


def test_whoever_may_not_install_hears_it_before(loaded: Cluster, namespace: str, tmp_path: Path) -> None:
    token = loaded.kubectl("create", "token", "default", "-n", namespace).strip()
    config = json.loads(loaded.kubectl("config", "view", "--raw", "-o", "json"))
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    (tmp_path / "config").write_text(json.dumps(config))
    loaded.kubectl("create", "clusterrole", namespace, "--verb=list,get", "--resource=nodes,namespaces")
    loaded.kubectl(
        "create", "clusterrolebinding", namespace, f"--clusterrole={namespace}", f"--serviceaccount={namespace}:default"
    )
    try:
        done = run("check", "--cluster", "--pre", "--kubeconfig", str(tmp_path / "config"), cluster=loaded)
    finally:
        loaded.kubectl("delete", "clusterrole,clusterrolebinding", namespace)
    assert done.returncode == 1
    assert "can create clusterroles\n    create is not allowed" in done.stdout


def test_uninstalled_it_leaves_nothing_on_the_cluster_and_the_nodes(loaded: Cluster, namespace: str) -> None:
    install(loaded)
    loaded.apply(WEB.replace("NAMESPACE", namespace))
    loaded.wait_rollout("deployment/web", namespace)
    loaded.apply(seine("enroll", namespace))
    eventually(lambda: len(captured(loaded, namespace)) == 4, "all pods to be captured", 30)
    assert all(list(left_on(node)) for node in loaded.nodes.values()), "else this test looks at the wrong places"
    uninstall(loaded)
    eventually(
        lambda: not [each for node in loaded.nodes.values() for each in left_on(node)], "the nodes to be clean", 60
    )
    eventually(lambda: not left_in(loaded), "the cluster to be clean", 60)
    loaded.kubectl("delete", "--ignore-not-found", "-f", str(ROOT / "deploy/crds"))
    service = loaded.api.get(f"/api/v1/namespaces/{namespace}/services/web")["spec"]["clusterIPs"][0]
    assert fetch(loaded, namespace, f"http://{service}:8080/")


def left_on(node: Node) -> Iterator[str]:
    """What of ours is there; the empty folders that Kubernetes made for hostPath volumes are not."""
    for place in ("/sys/fs/bpf/seine", "/run/seine", "/var/lib/seine"):
        folder = node.machine.path(place)
        if folder.exists():
            yield from (f"{place}/{each.name}" for each in folder.iterdir())
    cgroup = leftovers.cgroup2_root() / f"seine-{node.name}"
    if cgroup.exists():
        yield str(cgroup)
    routes = ["ip", "netns", "exec", Path(node.machine.netns).name, "ip", "route", "show", "proto", "158"]
    yield from subprocess.run(routes, capture_output=True, text=True, check=True).stdout.splitlines()


def left_in(cluster: Cluster) -> list[str]:
    names = cluster.kubectl("get", KINDS, "-o", "name").splitlines()
    return [name for name in names if "seine" in name or name.startswith("meshnode")]
