"""One pod of this node, asked for by name because somebody knows of it before our watch does."""

from __future__ import annotations

import asyncio

from mesh.kube import objects
from mesh.kube.api.decode import Decoder, Put
from mesh.kube.api.watching import ENDS, Asks, Kind

PAGE_BYTES_MAX = 4 << 20  # of one pod


class PodLookup:
    """By a list of one, for which `list` on pods suffices. `session`: its own, for it waits for nobody else's."""

    def __init__(self, session: Asks, pods: Kind) -> None:
        self._session, self._pods = session, pods
        self._turn = asyncio.Lock()
        self._decoder = Decoder(objects.Pod)
        self.failures = 0

    async def find(self, namespace: str, name: str) -> objects.Pod | None:
        """None: there is none, it breaks our schema, or the server does not say, all of which our watch will tell."""
        selector = f"{self._pods.selector},metadata.namespace={namespace},metadata.name={name}"
        async with self._turn:
            try:
                answer = await self._session.ask(self._pods.target(fieldSelector=selector))
                if answer.status != 200:
                    raise await answer.refuse()
                events = self._decoder.page(await answer.read(PAGE_BYTES_MAX)).events
            except ENDS:
                self.failures += 1
                return None
        found = (each.object for each in events if isinstance(each, Put) and each.key == (namespace, name))
        return next((each for each in found if isinstance(each, objects.Pod)), None)

    def close(self) -> None:
        self._session.close()
