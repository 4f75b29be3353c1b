"""One drain per pod at a time, in the background, and what it says of itself. Time and ends are in the test's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mesh import drains
from mesh.capture.existing import Bypass
from mesh.drains import Drains
from mesh.model import Direction, Pod, Workload
from mesh.node.sockdiag import Connection
from mesh.observe.status import Draining

POD = Pod(workload=Workload(uid="u", namespace="shop", name="web", addresses=()), netns="/n")


def bypasses(count: int) -> list[Bypass]:
    connection = Connection(
        family=2, state=1, local="10.0.0.1", local_port=1, peer="10.0.0.2", peer_port=2, cgroup_id=3, key=b""
    )
    return [Bypass(direction=Direction.INBOUND, connection=connection)] * count


class World:
    """`now` is the time, and nothing ends before the test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.begun = 100.0, 0
        self.steps: asyncio.Queue[bool | OSError] = asyncio.Queue()
        self.drains = Drains(30.0, lambda: self.now)
        monkeypatch.setattr(drains, "destroy", self._destroy)

    async def _destroy(self, pod: Pod, wanted: list[Bypass], seconds: float, handled: Callable[[bool], None]) -> None:
        self.begun += 1
        for _ in wanted:
            step = await self.steps.get()
            if isinstance(step, OSError):
                raise step
            handled(step)

    async def step(self, *steps: bool | OSError) -> Draining:
        for step in steps:
            self.steps.put_nowait(step)
        for _ in range(5):
            await asyncio.sleep(0)
        found = self.drains.of("u")
        assert found is not None
        return found


def in_a_world(monkeypatch: pytest.MonkeyPatch, play: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        await play(World(monkeypatch))

    asyncio.run(run())


def test_who_asks_is_answered_at_once_and_may_look_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(world: World) -> None:
        assert world.drains.of("u") is None
        assert world.drains.begin(POD, bypasses(3)) == Draining(total=3, seconds_left=30.0)
        world.now += 10
        assert await world.step(True, False) == Draining(total=3, handled=2, closed=1, seconds_left=20.0)
        assert await world.step(True) == Draining(total=3, handled=3, closed=2, finished=True)

    in_a_world(monkeypatch, play)


def test_who_asks_in_the_middle_joins_and_afterwards_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(world: World) -> None:
        world.drains.begin(POD, bypasses(2))
        await world.step(True)
        assert world.drains.begin(POD, bypasses(9)).total == 2
        await world.step(True)
        assert world.drains.begin(POD, bypasses(1)).total == 1
        assert (await world.step(True)).finished
        assert world.begun == 2

    in_a_world(monkeypatch, play)


def test_nothing_to_drain_is_over_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(world: World) -> None:
        assert world.drains.begin(POD, ()) == Draining(finished=True)

    in_a_world(monkeypatch, play)


def test_a_kernel_that_cannot_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(world: World) -> None:
        world.drains.begin(POD, bypasses(2))
        found = await world.step(True, OSError(95, "the kernel cannot"))
        assert found == Draining(total=2, handled=1, closed=1, finished=True, detail="the kernel cannot")

    in_a_world(monkeypatch, play)


def test_what_a_pod_that_is_gone_had_is_forgotten_once_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(world: World) -> None:
        world.drains.begin(POD, bypasses(1))
        world.drains.forget_all_but(())
        assert (await world.step(True)).finished
        world.drains.forget_all_but({"u"})
        assert world.drains.of("u") is not None
        world.drains.forget_all_but(())
        assert world.drains.of("u") is None

    in_a_world(monkeypatch, play)


def test_an_agent_that_ends_drains_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(world: World) -> None:
        world.drains.begin(POD, bypasses(1))
        await world.step()
        world.drains.close()
        assert (await world.step()).handled == 0

    in_a_world(monkeypatch, play)
