"""The mesh with its objects from an API server: whole agents, real traffic, a server that can go away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from tests.kit import apps, spawn
from tests.kit.kube_api import ApiManifests, ServedApi
from tests.kit.kubelet import UID, Kubelet
from tests.kit.lab import Lab, Pod
from tests.kit.seine import Mesh
from tests.kit.wait import eventually


@dataclass
class Town:
    lab: Lab
    mesh: Mesh
    manifests: ApiManifests
    served: ServedApi
    client: Pod
    server: Pod
    vip: str


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with ServedApi() as served, Lab("apisource") as lab:
        client, server = lab.pod("client"), lab.pod("server")
        apps.Talk(server)
        manifests = ApiManifests(served, lab)
        manifests.pod(client).pod(server)
        vip, _ = manifests.service("talk", 7000, backends=[server])
        with Mesh(lab, manifests, kubeconfig=manifests.kubeconfig()) as mesh:
            mesh.wait_captured(client, server)
            yield Town(lab, mesh, manifests, served, client, server, vip)


def serves(town: Town) -> bool:
    return bool(apps.client(town.client, "plain", town.vip, 7000)["reply"]["name"] == "server")


def applied(town: Town, kind: str) -> dict[str, Any] | None:
    return next((each for each in dict(town.served.api.applied).values() if each["kind"] == kind), None)


def test_pods_of_the_api_server_are_served_and_it_is_said_where_they_are_from(town):
    before = town.mesh.carried(town.client)
    assert serves(town)
    town.mesh.wait_carried(town.client, before + 1)
    source = town.mesh.status()["source"]
    assert "kubeconfig" in source["kind"]
    assert source["errors"] == []


def test_how_often_everything_was_listed_is_counted(town):
    metrics = town.mesh.metrics()
    assert metrics.value("seine_source_lists_total", kind="Service") == 1
    assert metrics.value("seine_source_failures_total", kind="Service") == 0


def test_the_label_of_a_namespace_enrols_pods_that_run_already_and_its_end_lets_them_go(town):
    pod = town.lab.pod("labelled")
    town.manifests.pod(pod, enrolled=None)
    with pod.connect(town.server.ip, 7000):
        for enrolled, states in ((True, {"bypassing", "captured"}), (False, set()), (True, {"bypassing", "captured"})):
            town.manifests.namespace(enrolled=enrolled)

            def reached(states: set[str] = states) -> bool:
                found = {each["state"] for each in town.mesh.status()["pods"] if each["name"] == "labelled"}
                return found <= states and bool(found) == bool(states)

            eventually(reached, f"the pod to be {states or 'out'}")


def test_a_pod_that_nobody_says_where_it_is_is_found_and_captured(town):
    with ExitStack() as undo:
        pod = town.lab.pod("found")
        undo.callback(pod.remove)
        kubelet = Kubelet(town.lab.cgroup, "cgroupfs", undo)
        kubelet.container("pause", pod)
        town.manifests.pod(pod)
        path = "/api/v1/pods"
        made = dict(town.served.api.objects[path]["default", pod.name])
        made["metadata"] = {**made["metadata"], "annotations": {}, "uid": UID}
        town.served.run(town.served.api.put, made)
        town.mesh.wait_state(pod, "captured")
        before = town.mesh.carried(pod)
        leaf = kubelet.folder / "pause"
        command = ["curl", "-s", "--max-time", "2", f"telnet://{town.vip}:7000"]
        caller = spawn.spawn(command, town.lab.log_path("curl"), spawn.entering(leaf, pod.netns, None), {})
        undo.callback(caller.stop)
        town.mesh.wait_carried(pod, before + 1)
        town.served.run(town.served.api.delete, made)
        eventually(lambda: all(each["name"] != "found" for each in town.mesh.status()["pods"]), "the pod to leave")


def test_the_other_nodes_can_read_who_is_here_and_that_we_live(town):
    def listed() -> set[str]:
        found = applied(town, "MeshNode")
        return {each["name"] for each in found["spec"]["workloads"]} if found else set()

    eventually(lambda: {"client", "server"} <= listed(), "both pods to be listed")
    found = eventually(lambda: applied(town, "Lease"), "a Lease")
    assert found is not None
    assert found["spec"]["holderIdentity"] == town.mesh.node


def test_a_list_of_ours_that_somebody_removes_comes_back(town):
    path = "/apis/seine.dev/v1alpha1/meshnodes"
    mine = ("", town.mesh.node)
    found = eventually(lambda: town.served.api.objects[path].get(mine), "our list")
    town.served.run(town.served.api.delete, found)
    eventually(lambda: mine in town.served.api.objects[path], "our list to be back", 15)


def test_an_api_server_that_is_away_costs_no_connection_and_what_it_says_later_counts(town):
    town.served.run(town.served.api.stop)
    eventually(lambda: any("API server" in each for each in town.mesh.status()["source"]["errors"]), "the error")
    assert serves(town)
    town.served.run(town.served.api.start, town.served.api.port)
    town.manifests.service("talk", 7000, backends=[])
    eventually(lambda: not town.mesh.status()["source"]["errors"], "no error", 30)

    def refused() -> bool:
        return "error" in apps.client(town.client, "plain", town.vip, 7000)

    eventually(refused, "the Service without endpoints to be refused")
    town.manifests.service("talk", 7000, backends=[town.server])
