"""Pods that a container runtime is just starting: in the mesh before their first packet, or told to wait, or repaired.

The runtime is played by the test: it reads the node's network configuration and calls our plugin as libcni does.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mesh.cni.conflist import TYPE
from tests.kit import apps, spawn
from tests.kit.kube_api import ApiManifests, ServedApi
from tests.kit.kubelet import Kubelet
from tests.kit.lab import Lab, Pod
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

BRIDGE = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]}
_serial = itertools.count(1)


class Draft(ApiManifests):
    """What would be written."""

    made: dict[str, Any]

    def write(self, name: str, *objects: dict[str, Any]) -> Draft:
        (self.made,) = objects
        return self


@dataclass
class Town:
    lab: Lab
    mesh: Mesh
    manifests: ApiManifests
    served: ServedApi
    vip: str
    list: Path
    bin: Path
    rules: Path

    def start(self, pod: Pod, uid: str, namespace: str = "default", address: str = "") -> dict[str, Any] | None:
        """What the runtime does when it has made the pod's network: the error when the pod may not start."""
        whole = json.loads(self.list.read_text())
        (plugin,) = [each for each in whole["plugins"] if each["type"] == TYPE]
        ips = [{"address": f"{address or pod.ip}/24", "interface": 0}]
        result = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": pod.netns}], "ips": ips}
        told = {**plugin, "cniVersion": whole["cniVersion"], "name": whole["name"], "prevResult": result}
        args = f"K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={pod.name};K8S_POD_UID={uid}"
        env = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c", "CNI_NETNS": pod.netns, "CNI_ARGS": args}
        done = subprocess.run(
            [self.bin / TYPE], input=json.dumps(told).encode(), env=env, capture_output=True, timeout=30
        )
        said: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode or said == result
        return said if done.returncode else None

    def put(self, pod: Pod, enrolled: bool | None = True, uid: str = "", **given: Any) -> str:
        """Its object as a scheduler leaves it: with a node, without an address; with one where it is known. Its uid."""
        running, uid = bool(uid), uid or str(uuid.UUID(int=next(_serial), version=4))
        draft = Draft(self.served, self.lab)
        draft.pod(pod, enrolled, **given)
        made = draft.made
        made["metadata"]["uid"] = uid
        for name in ("seine.dev/netns", "seine.dev/cgroup"):
            del made["metadata"]["annotations"][name]
        if not running:
            made["status"] = {"phase": "Pending"}
        self.served.run(self.served.api.put, made)
        return uid

    def known(self, kind: str) -> float:
        return self.mesh.metrics().value("seine_cni_pods_total", result=kind)

    def captured(self, pod: Pod) -> int:
        return int(self.mesh.pod(pod).get("captured", 0))

    def serves(self, pod: Pod) -> bool:
        return bool(apps.client(pod, "plain", self.vip, 7000)["reply"]["name"] == "server")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("cni")
    conf, binaries, rules = folder / "net.d", folder / "bin", folder / "rules"
    conf.mkdir()
    binaries.mkdir()
    (conf / "10-bridge.conflist").write_text(json.dumps(BRIDGE))
    with ServedApi() as served, Lab("cni") as lab:
        server = lab.pod("server")
        apps.Talk(server)
        manifests = ApiManifests(served, lab)
        manifests.namespace()
        manifests.pod(server)
        vip, _ = manifests.service("talk", 7000, backends=[server])
        settings: dict[str, Any] = {"cni_conf": conf, "cni_bin": binaries, "cni_rules": rules}
        with Mesh(lab, manifests, kubeconfig=manifests.kubeconfig(), **settings) as mesh:
            mesh.wait_captured(server)
            yield Town(lab, mesh, manifests, served, vip, conf / "10-bridge.conflist", binaries, rules)
        assert json.loads((conf / "10-bridge.conflist").read_text()) == BRIDGE, "`seine clean` takes our entry out"
        assert not list(binaries.iterdir())
        assert not rules.exists()


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def pod(town: Town, undo: ExitStack) -> Pod:
    made = town.lab.pod(f"pod-{next(_serial)}")
    undo.callback(made.remove)
    return made


def test_a_new_pod_is_in_the_mesh_before_its_first_packet(town: Town, pod: Pod) -> None:
    uid, before = town.put(pod), town.known("enrolled")
    assert town.start(pod, uid) is None
    assert town.captured(pod) == 0
    assert town.serves(pod)
    assert town.captured(pod) >= 1, "the very first connection"
    assert town.known("enrolled") == before + 1


def test_its_cgroup_is_found_when_it_has_one_and_its_capture_is_proven_there(
    town: Town, pod: Pod, undo: ExitStack
) -> None:
    uid = town.put(pod)
    assert town.start(pod, uid) is None
    slot = town.mesh.pod(pod)["slot"]
    kubelet = Kubelet(town.lab.cgroup, "cgroupfs", undo, uid)
    kubelet.container("pause", pod)
    eventually(lambda: (found := town.mesh.pod(pod))["state"] == "captured" and not found["detail"], "the proof", 15)
    assert town.mesh.pod(pod)["slot"] == slot


def test_a_pod_that_does_not_ask_for_the_mesh_is_let_go_at_once(town: Town, pod: Pod) -> None:
    uid, before = town.put(pod, enrolled=None), town.known("not_meshed")
    assert town.start(pod, uid) is None
    assert town.mesh.pod(pod) == {}
    assert town.known("not_meshed") == before + 1


def test_a_pod_that_the_watch_has_not_seen_is_asked_for(town: Town, pod: Pod) -> None:
    """Its event is held back: the object is put where only a list finds it."""
    uid = town.put(pod, enrolled=None)
    eventually(lambda: town.start(pod, uid) is None, "the watch to have it")
    made = dict(town.served.api.objects["/api/v1/pods"]["default", pod.name])
    fresh = str(uuid.UUID(int=next(_serial), version=4))
    made["metadata"] = {**made["metadata"], "uid": fresh, "labels": {"seine.dev/mesh": "enabled"}}
    town.served.api.objects["/api/v1/pods"]["default", pod.name] = made
    assert town.start(pod, fresh) is None
    assert town.serves(pod)
    assert town.captured(pod) >= 1


def test_a_pod_that_nobody_knows_starts(town: Town, pod: Pod) -> None:
    before = town.known("started_outside")
    assert town.start(pod, str(uuid.uuid4())) is None
    assert town.known("started_outside") == before + 1


def test_an_address_is_the_new_pods_though_the_old_ones_object_is_still_there(
    town: Town, pod: Pod, undo: ExitStack
) -> None:
    old = town.lab.pod(f"old-{next(_serial)}")
    undo.callback(old.remove)
    first = town.put(old)
    assert town.start(old, first) is None
    assert town.serves(old)
    second = town.put(pod)
    assert town.start(pod, second, address=old.ip) is None, "another namespace with the address of the first"
    eventually(lambda: town.mesh.pod(old) == {}, "the old pod to be out")
    assert town.mesh.pod(pod)["slot"] >= 0


def test_without_an_agent_an_open_pod_starts_and_is_taken_in_afterwards(town: Town, pod: Pod, undo: ExitStack) -> None:
    uid = town.put(pod)
    town.mesh.kill_agent()
    try:
        assert town.start(pod, uid) is None
        kubelet = Kubelet(town.lab.cgroup, "cgroupfs", undo, uid)
        leaf = kubelet.folder / "pause"
        kubelet.container("pause", pod)
        town.put(pod, uid=uid)
    finally:
        town.mesh.start()
    town.mesh.wait_state(pod, "captured", 15)
    command = ["curl", "-s", "--max-time", "2", f"telnet://{town.vip}:7000"]
    before = town.captured(pod)
    caller = spawn.spawn(command, town.lab.log_path("curl"), spawn.entering(leaf, pod.netns, None), {})
    undo.callback(caller.stop)
    eventually(lambda: town.captured(pod) > before, "its connection to be captured")


def test_without_an_agent_a_pod_of_a_closed_namespace_waits(town: Town, pod: Pod) -> None:
    town.manifests.namespace("bank", enrolled=True, **{"seine.dev/fail": "closed"})
    town.manifests.namespace("house", enrolled=True)
    eventually(lambda: town.rules.read_text() == "closed bank\n", "the rules to be written")
    uid = town.put(pod, enrolled=None, namespace="bank")
    town.mesh.kill_agent()
    try:
        refused = town.start(pod, uid, "bank")
        assert refused is not None
        assert refused["code"] == 11
        assert "bank" in refused["msg"]
        assert town.start(pod, uid, "house") is None
    finally:
        town.mesh.start()
    assert town.start(pod, uid, "bank") is None
    assert town.mesh.pod(pod)["fail_mode"] == "closed"


def test_whoever_writes_the_configuration_anew_does_not_take_us_out_for_long(town: Town, pod: Pod) -> None:
    before = town.mesh.metrics().value("seine_cni_repairs_total")
    town.list.write_text(json.dumps(BRIDGE))
    eventually(lambda: TYPE in town.list.read_text(), "our entry to be back")
    eventually(lambda: town.mesh.metrics().value("seine_cni_repairs_total") == before + 1, "the repair to be counted")
    assert any("lost our entry" in each for each in town.mesh.status()["cni"]["repairs"])
    said = town.mesh.seine("check").stdout
    assert "‼ nobody takes our entry out of the CNI chain" in said
    assert town.start(pod, town.put(pod)) is None
    assert town.serves(pod)
    assert town.captured(pod) >= 1


def test_a_configuration_that_cannot_have_our_entry_is_told(town: Town) -> None:
    intruder = town.list.with_name("05-single.conf")
    intruder.write_text(json.dumps({"cniVersion": "1.0.0", "name": "x", "type": "bridge"}))
    try:
        eventually(lambda: "single plugin" in town.mesh.status()["cni"]["problem"], "the sentence")
        assert town.mesh.metrics().value("seine_cni_installed") == 0
        assert "‼ new pods are announced by CNI" in town.mesh.seine("check").stdout
    finally:
        intruder.unlink()
    eventually(lambda: not town.mesh.status()["cni"]["problem"], "all to be well")
    assert town.mesh.metrics().value("seine_cni_installed") == 1
