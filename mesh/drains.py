"""Connections that go past the mesh, ended on request and in the background: one drain per pod at a time.

Whoever asks is answered at once with what is under way, and may ask again how far it is; who asks in the middle of a
drain joins it. It ends what was there when it began, spread over the drain time, so that clients do not all come again
at once. It goes with the agent: what it had not ended by then is shown as bypassing, and can be drained again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from mesh.capture.existing import Bypass, destroy
from mesh.model import Pod
from mesh.observe.status import Draining

log = logging.getLogger("seine.agent")


class _Drain:
    def __init__(self, total: int, ends_at: float) -> None:
        self.total, self.ends_at = total, ends_at
        self.handled = self.closed = 0
        self.finished = False
        self.detail = ""
        self.task: asyncio.Task[None] | None = None

    def handle(self, closed: bool) -> None:
        self.handled += 1
        self.closed += closed


class Drains:
    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._drains: dict[str, _Drain] = {}  # by the pod's uid; the last one of each

    def begin(self, pod: Pod, bypasses: Collection[Bypass]) -> Draining:
        """End these, or join what is under way for the pod."""
        uid = pod.workload.uid
        if uid not in self._drains or self._drains[uid].finished:
            drain = _Drain(len(bypasses), self._clock() + self._seconds)
            drain.finished = not bypasses
            self._drains[uid] = drain
            if bypasses:
                drain.task = asyncio.get_running_loop().create_task(self._run(pod, bypasses, drain))
        return self.of(uid) or Draining()

    async def _run(self, pod: Pod, bypasses: Collection[Bypass], drain: _Drain) -> None:
        uid = pod.workload.uid
        try:
            await destroy(pod, bypasses, self._seconds, handled=drain.handle)
            log.info("pod %s is drained: %d of %d connections closed", uid, drain.closed, drain.total)
        except OSError as error:
            drain.detail = error.strerror or str(error)
            log.error("pod %s is not drained: %s", uid, drain.detail)
        finally:
            drain.finished = True

    def of(self, uid: str) -> Draining | None:
        """The last one of the pod, under way or over; None when there was none."""
        drain = self._drains.get(uid)
        if drain is None:
            return None
        return Draining(
            total=drain.total,
            handled=drain.handled,
            closed=drain.closed,
            seconds_left=0.0 if drain.finished else max(0.0, drain.ends_at - self._clock()),
            finished=drain.finished,
            detail=drain.detail,
        )

    def forget_all_but(self, uids: Collection[str]) -> None:
        """What pods that are gone had; one that is under way ends by itself, with the pod's namespace."""
        for uid in [uid for uid, drain in self._drains.items() if uid not in uids and drain.finished]:
            del self._drains[uid]

    def close(self) -> None:
        for drain in self._drains.values():
            if drain.task is not None:
                drain.task.cancel()
