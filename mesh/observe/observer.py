"""What the agent holds to answer questions about itself.

`look` is called on the loop and gives a value; everything after it, reading the counters included, happens in one
thread that alone owns the sums. So a scrape of 50 000 lines takes its seconds beside the loop, and no lock is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TypeVar

import msgspec

from mesh.model import Series, Value
from mesh.observe import node_metrics, traffic_metrics
from mesh.observe.exposition import Body, render
from mesh.observe.names import Names
from mesh.observe.status import StatusDocument
from mesh.observe.traffic import Traffic


class Look(Value, frozen=True):
    """The node at one moment. The document's `services` are left empty: they are filled in from the counters."""

    document: StatusDocument
    names: Names


T = TypeVar("T")
ReadSeries = Callable[[], Mapping[int, Sequence[Series]]]


class Observer:
    """`read_series`: every worker's counters; called in the thread, so it may only read shared memory."""

    def __init__(
        self,
        look: Callable[[], Look],
        read_series: ReadSeries,
        istio: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._read_series, self._clock = look, read_series, clock
        self._traffic = Traffic(traffic_metrics.tables(istio))
        self._thread = ThreadPoolExecutor(1, "observe")

    async def observe(self) -> None:
        """Take in the counters now. Every few seconds, so that what happened is filed under the names of its time."""
        look = self._look()
        await self._in_thread(lambda: self._take_in(look))

    async def status(self) -> StatusDocument:
        look = self._look()
        return await self._in_thread(lambda: self._status(look))

    async def metrics(self, accept: str = "", names: Sequence[str] = (), compress: bool = False) -> Body:
        look = self._look()
        return await self._in_thread(lambda: self._metrics(look, accept, names, compress))

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _take_in(self, look: Look) -> None:
        self._traffic.observe(self._read_series(), look.names, self._clock())

    def _status(self, look: Look) -> StatusDocument:
        self._take_in(look)
        services, untold = self._traffic.services(look.names)
        return msgspec.structs.replace(look.document, services=services, services_untold=untold)

    def _metrics(self, look: Look, accept: str, names: Sequence[str], compress: bool) -> Body:
        self._take_in(look)
        offers = chain(
            traffic_metrics.offers(self._traffic, look.document.latency_bounds_us),
            node_metrics.offers(look.document),
        )
        return render(offers, accept, names, compress)
