"""A pod's namespace found by its uid, in cgroups as kubelet makes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mesh.node import netns
from mesh.node.sandboxes import Sandboxes
from tests.kit import leftovers
from tests.kit.kubelet import LAYOUTS, UID, Kubelet
from tests.kit.lab import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab("sandbox") as lab:
        yield lab


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def sandboxes(lab: Lab) -> Iterator[Sandboxes]:
    made = Sandboxes(lab.cgroup)
    yield made
    made.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_pod_is_found_whatever_kubelet_calls_its_cgroup(lab, undo, sandboxes, layout):
    pod, kubelet = lab.pod(f"found-{layout}"), Kubelet(lab.cgroup, layout, undo)
    kubelet.container("pause", pod)
    found = sandboxes.find([UID, "11111111-no-such-pod"])
    assert list(found) == [UID]
    assert netns.inode(found[UID].netns) == netns.inode(pod.netns)
    assert Path(found[UID].cgroup) == kubelet.folder / "pause"


def test_the_path_outlives_containers_and_means_the_same_namespace(lab, undo, sandboxes):
    pod, kubelet = lab.pod("restarting"), Kubelet(lab.cgroup, "cgroupfs", undo)
    first = kubelet.container("one", pod)
    before = sandboxes.find([UID])[UID]
    kubelet.end(first)
    assert sandboxes.find([UID])[UID] == before, "nothing runs, but the pod is there"
    kubelet.container("two", pod)
    after = sandboxes.find([UID])[UID]
    assert after.netns == before.netns
    assert Path(after.cgroup).name == "two"


def test_a_new_sandbox_is_another_namespace(lab, undo, sandboxes):
    kubelet = Kubelet(lab.cgroup, "cgroupfs", undo)
    old, new = lab.pod("old"), lab.pod("new")
    first = kubelet.container("one", old)
    assert netns.inode(sandboxes.find([UID])[UID].netns) == netns.inode(old.netns)
    kubelet.end(first)
    kubelet.container("two", new)
    assert netns.inode(sandboxes.find([UID])[UID].netns) == netns.inode(new.netns)


def test_a_pod_whose_cgroup_is_gone_is_let_go_with_its_namespace(lab, undo, sandboxes):
    pod, kubelet = lab.pod("leaving"), Kubelet(lab.cgroup, "cgroupfs", undo)
    kubelet.end(kubelet.container("one", pod))
    child = kubelet.container("two", pod)
    path = sandboxes.find([UID])[UID].netns
    inode = netns.inode(path)
    kubelet.end(child)
    for leaf in ("one", "two", ""):
        leftovers.remove_cgroup(kubelet.folder / leaf)
    assert sandboxes.find([UID]) == {}
    assert netns.gone(path, inode)


def test_a_host_network_pod_has_no_sandbox_of_its_own(lab, undo, sandboxes):
    host, kubelet = lab.host_pod("host"), Kubelet(lab.cgroup, "cgroupfs", undo)
    kubelet.container("pause", host)
    assert sandboxes.find([UID]) == {}


def test_nobody_is_held_whom_nobody_asks_for(lab, undo, sandboxes):
    pod, kubelet = lab.pod("unasked"), Kubelet(lab.cgroup, "systemd", undo)
    kubelet.container("pause", pod)
    path = sandboxes.find([UID])[UID].netns
    inode = netns.inode(path)
    assert sandboxes.find([]) == {}
    assert netns.gone(path, inode)
