"""Tells Kubernetes' users by Events what became of their pods: enrolled, leaking, refused and why.

Nothing waits for it: what the API server does not take is told later, and the log says so once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from mesh.kube.api.publication import ApiBoard
from mesh.kube.publication import PublicationError
from mesh.observe.chronicle import Chronicle, Occurrence, Standing

log = logging.getLogger("seine.agent")
LOOK_SECONDS = 1.0
AGAIN_SECONDS = 30.0  # after a failure
PAUSE_SECONDS = 0.1  # between two: a node that starts has 110 pods to tell of


class Herald:
    def __init__(self, board: ApiBoard, look: Callable[[], Iterable[Standing]]) -> None:
        self._board, self._look = board, look
        self._chronicle = Chronicle()
        self._problem = ""

    async def run(self) -> None:
        while True:
            pause = LOOK_SECONDS
            for occurrence in self._chronicle.news(time.monotonic(), self._look()):
                if not await self._tell(occurrence):
                    pause = AGAIN_SECONDS
                    break
                await asyncio.sleep(PAUSE_SECONDS)
            await asyncio.sleep(pause)

    async def _tell(self, occurrence: Occurrence) -> bool:
        try:
            await self._board.tell(
                *(occurrence.uid, occurrence.namespace, occurrence.name),
                *(occurrence.reason, occurrence.message, occurrence.warning),
            )
        except PublicationError as error:
            if str(error) != self._problem:
                log.warning("Events of pods are not told: %s", error)
            self._problem = str(error)
            return False
        self._problem = ""
        self._chronicle.told(occurrence)
        return True
