"""What `seine check --cluster` thinks of a cluster's answers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from mesh.cli import cluster
from mesh.cli.kubectl import Kubectl, KubectlError, NotFound, Object
from mesh.cli.report import Check, Result
from mesh.install import Values, crds, objects

NOW = datetime(2026, 11, 24, 18, 0, 0, tzinfo=UTC)
VALUES = Values()
HOME = "/apis/apps/v1/namespaces/seine-system/daemonsets"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/seine-system/leases"
CONTROLLER = "/apis/apps/v1/namespaces/seine-system/deployments/seine-controller"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MESHNODES = "/apis/seine.dev/v1alpha1/meshnodes"


def node(name: str, kernel: str = "6.1.0-31-amd64", system: str = "linux", architecture: str = "amd64") -> Object:
    info = {"kernelVersion": kernel, "operatingSystem": system, "architecture": architecture}
    return {"metadata": {"name": name}, "status": {"nodeInfo": info}}


def daemon_set(name: str, wanted: int = 1, ready: int = 1, fresh: int = 1) -> Object:
    status = {"desiredNumberScheduled": wanted, "numberReady": ready, "updatedNumberScheduled": fresh}
    return {"metadata": {"name": name}, "status": status}


class Cluster(Kubectl):
    """One where all is well, and Seine is installed or not."""

    def __init__(self, installed: bool) -> None:
        super().__init__()
        self.allows: Callable[[Object], bool] = lambda _: True
        self.there = [*crds(), *copy.deepcopy(objects(VALUES))] if installed else []
        self.answers: dict[str, Object] = {"/version": {"gitVersion": "v1.36.3"}}
        self.lists: dict[str, list[Object]] = {"/api/v1/nodes": [node("a")], cluster.EVENTS: []}
        if installed:
            self.lists[HOME] = [daemon_set("seine-agent"), daemon_set("seine-worker")]
            self.lists[MESHNODES] = [{"metadata": {"name": "a"}}]
            lease = {"holderIdentity": "a", "renewTime": "2026-11-24T17:59:30.000000Z"}
            self.lists[LEASES] = [{"spec": lease}]
            self.answers[CONTROLLER] = {"status": {"replicas": 2, "readyReplicas": 2}}
            self.answers |= {f"{DEFINITIONS}/{each['metadata']['name']}": each for each in crds()}

    def get(self, path: str) -> Object:
        if path in self.lists:
            return {"items": self.lists[path]}
        if path not in self.answers:
            raise NotFound(path)
        return self.answers[path]

    def post(self, path: str, body: Object) -> Object:
        return {"status": {"allowed": self.allows(body["spec"]["resourceAttributes"])}}

    def live(self, wanted: Object) -> Object | None:
        same = (each for each in self.there if cluster._title(each) == cluster._title(wanted))
        return next(same, None)

    def checks(self, pre: bool) -> list[Check]:
        return list(cluster.checks(self, VALUES, pre, lambda: NOW))

    def bad(self, pre: bool) -> dict[str, tuple[Result, str]]:
        found = (each for each in self.checks(pre) if each.result is not Result.SUCCESS)
        return {each.description: (each.result, each.error) for each in found}


def test_a_good_cluster_is_good_before_and_after():
    assert Cluster(installed=False).bad(pre=True) == {}
    assert Cluster(installed=True).bad(pre=False) == {}


def test_nobody_answers():
    found = Cluster(installed=False)

    def get(_: str) -> Object:
        raise KubectlError("refused")

    found.get = get  # type: ignore[method-assign, assignment]
    (only,) = found.checks(pre=True)
    assert (only.result, only.error) == (Result.ERROR, "refused")


def test_old_servers_old_kernels_and_strange_machines_are_told():
    found = Cluster(installed=False)
    found.answers["/version"] = {"gitVersion": "v1.27.9-eks"}
    found.lists["/api/v1/nodes"] = [
        node("old", kernel="5.15.0-1"),
        node("strange", architecture="s390x"),
        node("windows", kernel="10.0.1", system="windows"),
    ]
    assert found.bad(pre=True) == {
        "Kubernetes is 1.30 or later": (Result.ERROR, "it is v1.27.9-eks"),
        "kernels of all nodes are 6.1 or later": (Result.ERROR, "old has 5.15.0-1"),
        "all nodes are amd64 or arm64": (Result.ERROR, "strange is s390x"),
        "all nodes run Linux": (Result.WARNING, "windows"),
    }


def test_who_may_not_install_hears_what_he_lacks():
    found = Cluster(installed=False)
    found.allows = lambda asked: asked["resource"] not in ("clusterroles", "*") and asked["verb"] != "watch"
    bad = found.bad(pre=True)
    assert bad["can create clusterroles"] == (Result.ERROR, "create is not allowed\n    patch is not allowed")
    assert "watch endpointslices" in bad["can grant what our agents need"][1]
    assert set(bad) == {"can create clusterroles", "can grant what our agents need"}


def test_a_namespace_that_ends_or_forbids_privileges_is_told():
    found = Cluster(installed=False)
    metadata: dict[str, Any] = {"name": "seine-system", "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}
    found.answers["/api/v1/namespaces/seine-system"] = {"metadata": {**metadata, "deletionTimestamp": "now"}}
    bad = found.bad(pre=True)
    assert bad["namespace seine-system stays"] == (Result.ERROR, "it is being deleted")
    assert bad["namespace seine-system may hold privileged pods"][1] == "Pod Security enforces baseline there"


def test_what_is_not_as_installed_is_told():
    found = Cluster(installed=True)
    found.lists[HOME] = [daemon_set("seine-agent", 3, 2, 3), daemon_set("seine-worker", 3, 3, 1)]
    found.lists[MESHNODES] = [{"metadata": {"name": "gone"}}]
    found.lists[LEASES][0]["spec"]["renewTime"] = "2026-11-24T17:50:00.000000Z"
    pod = {"involvedObject": {"namespace": "shop", "name": "web"}, "reason": "Leaking", "message": "why"}
    found.lists[cluster.EVENTS] = [pod]
    found.there = [each for each in found.there if each["kind"] != "NetworkPolicy"]
    assert found.bad(pre=False) == {
        "objects are this version's": (Result.WARNING, "NetworkPolicy seine-worker: it is not there"),
        "seine-agent is ready on all 3 nodes": (Result.ERROR, "on 2"),
        "seine-worker is of the latest revision": (Result.WARNING, "on 2 nodes it is not"),
        "every node says who is in the mesh there": (Result.WARNING, "a"),
        "nobody speaks for a node that is gone": (Result.WARNING, "gone"),
        "agents were heard of in the last two minutes": (Result.WARNING, "a: 600 s ago"),
        "no pod leaks or is refused": (Result.WARNING, "shop/web: Leaking: why"),
    }


@pytest.mark.parametrize(
    ("status", "result"),
    [
        ({"replicas": 2, "readyReplicas": 1}, Result.WARNING),
        ({"replicas": 2}, Result.ERROR),
        ({}, Result.ERROR),
    ],
)
def test_a_controller_that_is_not_whole_is_told(status: Object, result: Result):
    found = Cluster(installed=True)
    found.answers[CONTROLLER] = {"status": status}
    assert {name: bad[0] for name, bad in found.bad(pre=False).items()} == {
        "all replicas of seine-controller are ready": result
    }


def test_where_nothing_is_installed_one_sentence_says_so():
    found = Cluster(installed=False)
    found.lists[HOME] = []
    assert found.bad(pre=False)["Seine is installed in seine-system"] == (Result.ERROR, "it is not")


def test_plurals_are_kubernetes_own():
    assert [cluster._resource(each) for each in ("NetworkPolicy", "Pod", "ClusterRole")] == [
        "networkpolicies",
        "pods",
        "clusterroles",
    ]
