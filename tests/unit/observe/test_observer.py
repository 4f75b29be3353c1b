from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

from mesh.model import Series
from mesh.observe.observer import Look, Observer
from tests.unit.observe.values import document, names, series


class Agent:
    """What an agent gives: a look at itself and its workers' counters."""

    def __init__(self) -> None:
        self.series: dict[int, list[Series]] = {0: [series()]}
        self.readers: set[str] = set()

    def look(self) -> Look:
        assert threading.current_thread() is threading.main_thread()
        return Look(document=document(), names=names())

    def read(self) -> Mapping[int, Sequence[Series]]:
        self.readers.add(threading.current_thread().name)
        return self.series


def test_status_and_metrics_tell_the_same() -> None:
    async def scenario() -> None:
        agent = Agent()
        observer = Observer(agent.look, agent.read)
        await observer.observe()
        agent.series[0] = [series(count=15)]
        status, body = await asyncio.gather(observer.status(), observer.metrics(names=["seine_requests_total"]))
        observer.close()
        assert [s.requests for s in status.services if s.name == "web"] == [15]
        assert b" 15.0\n" in body.content
        assert agent.readers == {"observe_0"}, "counters are read beside the loop, by one thread"

    asyncio.run(scenario())
