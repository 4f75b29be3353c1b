"""What the CNI chain is answered, and when: with the source, the kernel and the disk played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mesh import arrivals
from mesh.arrivals import Arrivals
from mesh.cni.question import Question
from mesh.config import AgentConfig
from mesh.model import FailMode, Mtls, Snapshot
from tests.kit.builders import pod, snapshot, workload

ASKED = Question(namespace="default", name="web", uid="uid-web", addresses=("10.0.0.1",))


class Scene:
    """The node around it; `waiting`: namespaces that were handed in and are not enrolled yet."""

    def __init__(self, folder: Path) -> None:
        self.rules = folder / "rules"
        config = AgentConfig(
            node="n1", run_root=folder, cni_conf=str(folder), cni_bin=str(folder), cni_rules=self.rules
        )
        self.waiting: dict[str, int] = {}
        enrolment: Any = SimpleNamespace(members={}, problems={})
        places: Any = SimpleNamespace(
            hand_in=self.waiting.__setitem__,
            take_back=lambda uid: self.waiting.pop(uid, None),
            waits=self.waiting.__contains__,
        )
        self.placed: list[str] = []
        self.enrolment, self.arrivals = enrolment, Arrivals(config, self, places, enrolment)

    async def place(self, namespace: str, name: str, uid: str, addresses: tuple[str, ...]) -> bool:
        self.placed.append(uid)
        return True

    def enrol(self) -> None:
        self.waiting.pop("uid-web")
        self.enrolment.members["uid-web"] = object()


def play(tmp_path: Path, body: Callable[[Scene, asyncio.Task[str]], Awaitable[None]]) -> Scene:
    async def run() -> Scene:
        scene = Scene(tmp_path)
        asking = asyncio.ensure_future(scene.arrivals.answer(ASKED, 7))
        while not scene.placed and not asking.done():
            await asyncio.sleep(0)
        await body(scene, asking)
        return scene

    return asyncio.run(run())


def test_the_answer_waits_until_the_pod_is_in(tmp_path):
    async def body(scene: Scene, asking: asyncio.Task[str]) -> None:
        assert scene.waiting == {"uid-web": 7}
        for early in (Snapshot(), snapshot(workload("web", uid="uid-other")), snapshot(pod("web", "10.0.0.9"))):
            scene.arrivals.brought(early)
        scene.arrivals.brought(snapshot(pod("web")))  # made before its namespace was handed in
        await asyncio.sleep(0)
        assert not asking.done()
        scene.enrol()
        scene.arrivals.brought(snapshot(pod("web")))
        assert await asking == ""

    assert play(tmp_path, body).arrivals.counts == {"enrolled": 1}


def test_who_does_not_ask_for_the_mesh_is_let_go(tmp_path):
    async def body(scene: Scene, asking: asyncio.Task[str]) -> None:
        scene.arrivals.brought(snapshot(workload("web")))
        assert await asking == ""
        assert scene.waiting == {}, "its namespace is not kept"

    assert play(tmp_path, body).arrivals.counts == {"not_meshed": 1}


@pytest.mark.parametrize(
    ("settings", "starts"),
    [({}, True), ({"fail_mode": FailMode.CLOSED}, False), ({"mtls": Mtls.STRICT}, False)],
)
def test_who_cannot_be_enrolled_starts_unless_it_must_not(tmp_path, settings, starts):
    async def body(scene: Scene, asking: asyncio.Task[str]) -> None:
        scene.waiting.clear()
        scene.enrolment.problems["uid-web"] = "all places are taken"
        scene.arrivals.brought(snapshot(pod("web", **settings)))
        said = await asking
        assert (said == "") == starts
        assert starts or said.endswith("all places are taken")

    scene = play(tmp_path, body)
    assert scene.arrivals.counts == {"started_outside" if starts else "refused": 1}


@pytest.mark.parametrize("closed", [False, True])
def test_who_is_not_known_in_time_goes_by_its_namespace(tmp_path, monkeypatch, closed):
    monkeypatch.setattr(arrivals, "ANSWER_SECONDS", 0.01)

    async def body(scene: Scene, asking: asyncio.Task[str]) -> None:
        scene.arrivals.brought(Snapshot(closed=frozenset({"default"} if closed else ())))
        said = await asking
        assert ("took too long" in said) == closed
        assert scene.waiting == {}

    play(tmp_path, body)


def test_rules_are_written_when_they_change_and_never_about_ourselves(tmp_path):
    async def body(scene: Scene, asking: asyncio.Task[str]) -> None:
        asking.cancel()
        scene.arrivals.brought(Snapshot(closed=frozenset({"bank", "seine-system"})))
        assert scene.rules.read_text() == "closed bank\n"
        assert scene.rules.stat().st_mode & 0o777 == 0o644
        before = scene.rules.stat()
        scene.arrivals.brought(Snapshot(closed=frozenset({"bank"})))
        assert scene.rules.stat() == before
        scene.arrivals.brought(Snapshot())
        assert scene.rules.read_text() == ""

    play(tmp_path, body)
