"""What the API server says of all kinds that we read, as snapshots; the same face as DirectorySource.

* There is no snapshot before every kind was listed once, or is known to be forbidden or not installed: half of the
  Services would be worse than none.
* What was known stays, whatever fails: an object that breaks our schema keeps its last good facts, a kind that is not
  told any more keeps its objects. Both are told. After a list, what was not in it is gone.
* Changes that come within `settle_seconds` make one snapshot, and whoever takes long over one gets the next with all
  that came meanwhile: there is no queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator

from msgspec import structs

from mesh.config import ApiConfig
from mesh.kube import objects
from mesh.kube.api.access import Access
from mesh.kube.api.client import Session
from mesh.kube.api.decode import Alive, Began, Broken, Complete, Event, Put, Removed
from mesh.kube.api.lookup import PodLookup
from mesh.kube.api.watching import Asks, Trouble, Watcher, kind_of, told
from mesh.kube.index import FILE, Index, Seat
from mesh.kube.mesh_node import MeshNodeFacts
from mesh.kube.parse import Facts, NamespaceFacts, PodFacts, parse
from mesh.kube.settings import BadField, strangers
from mesh.kube.whereabouts import Whereabouts
from mesh.model import MeshNode, Mtls, Snapshot

log = logging.getLogger("seine.source")
TURN_EVENTS = 64  # decoded and parsed before others may run: 10 ms of EndpointSlices
SKEW_SECONDS = 60.0  # of a clock that is wrong; certificates and tokens have about as much to spare
LOOKUP_SECONDS = 3.0  # somebody waits for the pod's first packet
TOLD_MAX = 100  # refused objects that are named; a broken controller makes thousands


class KubernetesSource:
    """Follow it with `watch`. `node`, `mtls`: see `assemble`."""

    def __init__(
        self,
        access: Access,
        node: str,
        config: ApiConfig | None = None,
        mtls: Mtls = Mtls.PERMISSIVE,
        connect: Callable[[Access, float], Asks] = Session,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        config = config or ApiConfig()
        self.name, self.node = access.name, node
        self._settle, self._clock = config.settle_seconds, clock
        self._index = Index(node, mtls)
        self._changed = asyncio.Event()
        self._told: tuple[object, ...] | None = None  # what beside the index was in the last snapshot
        self._logged: set[str] = set()  # errors, while there is no snapshot that has them
        self._faults: dict[Seat, str] = {}
        self._doubts: dict[Seat, list[str]] = {}
        selectors = {"Pod": f"spec.nodeName={node}"}
        self.watchers = [
            Watcher(
                kind_of(name, selectors.get(name, "")),
                connect(access, config.silence_seconds),
                config,
                self._rest,
                random.random,
            )
            for name in objects.KINDS
        ]
        self._back = asyncio.Event()  # the server answers again
        pods = next(each.kind for each in self.watchers if each.kind.name == "Pod")
        self._lookup = PodLookup(connect(access, LOOKUP_SECONDS), pods)
        self._whereabouts = Whereabouts()
        self._heard = dict.fromkeys(objects.KINDS, clock())
        self._listed: set[str] = set()  # kinds that were, once
        self._whole = False  # every kind was, or was refused
        self._fresh: dict[str, set[Seat]] = {}  # seats that a list has brought so far

    @property
    def looked_at(self) -> float:
        """When the kind that was longest silent was heard of, of those that were ever told."""
        heard = (self._heard[each.kind.name] for each in self.watchers if each.kind.name in self._listed)
        return min(heard, default=max(self._heard.values()))

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Lists and failures by kind."""
        return {each.kind.name: (each.lists, each.failures) for each in self.watchers}

    def own_mesh_node(self) -> MeshNode | None:
        """As the API server has it, and the other nodes read it."""
        facts = self._index.get(("MeshNode", "", self.node))
        return facts.node if isinstance(facts, MeshNodeFacts) else None

    def uid_of_namespace(self, name: str) -> str:
        """Empty while it is not known."""
        facts = self._index.get(("Namespace", "", name))
        return facts.uid if isinstance(facts, NamespaceFacts) else ""

    async def watch(self) -> AsyncIterator[Snapshot]:
        """For ever, from the first whole state on."""
        tasks = [asyncio.ensure_future(self._follow(watcher)) for watcher in self.watchers]
        for task in tasks:
            task.add_done_callback(lambda _: self._changed.set())
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                for task in tasks:
                    if task.done():
                        task.result()
                if (snapshot := self._snapshot()) is not None:
                    yield snapshot
                    await asyncio.sleep(self._settle)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for watcher in self.watchers:
                watcher.close()
            self._lookup.close()

    async def place(self, namespace: str, name: str, uid: str, addresses: tuple[str, ...]) -> bool:
        """CNI says that this pod of our node has these addresses now. False: nobody knows the pod (yet)."""
        seat: Seat = ("Pod", namespace, name)
        for facts in self._whereabouts.say(uid, addresses):
            self._index.put(("Pod", facts.workload.namespace, facts.workload.name), facts)
        found = None if self._knows(seat, uid) else await self._lookup.find(namespace, name)
        if found is not None and found.metadata.uid == uid and not self._knows(seat, uid):
            self._put(seat, found)
        self._changed.set()
        return self._knows(seat, uid)

    def _knows(self, seat: Seat, uid: str) -> bool:
        facts = self._index.get(seat)
        return isinstance(facts, PodFacts) and facts.workload.uid == uid

    def _snapshot(self) -> Snapshot | None:
        """None while there is nothing new, or nothing whole."""
        errors, warnings = tuple(self._errors()), tuple(self._warnings())
        self._whole |= all(each.kind.name in self._listed or each.absent for each in self.watchers)
        if not self._whole:
            for error in set(errors) - self._logged:
                log.warning("%s", error)
            self._logged = set(errors)
            return None
        if not self._index.changed and self._told == (errors, warnings):
            return None
        self._told = (errors, warnings)
        found = self._index.snapshot()
        return structs.replace(found, errors=(*errors, *found.errors), warnings=(*warnings, *found.warnings))

    def _warnings(self) -> Iterator[str]:
        skew = max((each.skew_seconds for each in self.watchers), key=abs)
        if abs(skew) > SKEW_SECONDS:
            way = "ahead of" if skew > 0 else "behind"
            yield (
                f"{FILE}: its clock is {abs(skew) / 60:.0f} min {way} this node's; nothing of ours goes by it, but "
                "certificates and tokens may seem to have ended, or not to be valid yet"
            )
        yield from (each for said in self._doubts.values() for each in said)

    def _errors(self) -> Iterator[str]:
        troubles: dict[Trouble, list[str]] = defaultdict(list)
        for each in self.watchers:
            if each.trouble is not None:
                troubles[each.trouble].append(each.kind.name)
        yield from (told(kinds, trouble) for trouble, kinds in troubles.items())
        faults = sorted(self._faults.values())
        yield from faults[:TOLD_MAX]
        if len(faults) > TOLD_MAX:
            yield f"{FILE}: and {len(faults) - TOLD_MAX} more objects that are refused"

    async def _follow(self, watcher: Watcher) -> None:
        kind, count = watcher.kind.name, 0
        away = False
        async for event in watcher.forever():
            if watcher.trouble is None:
                self._heard[kind] = self._clock()
                if away:
                    self._wake()
            away = watcher.trouble is not None and not watcher.trouble.code
            self._take(kind, event)
            if kind not in self._fresh or isinstance(event, Alive):
                self._changed.set()
            count += 1
            if count % TURN_EVENTS == 0:
                await asyncio.sleep(0)

    async def _rest(self, seconds: float) -> None:
        """Before another try; shorter where some other kind hears from the server meanwhile."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._back.wait(), seconds)

    def _wake(self) -> None:
        self._back.set()
        self._back = asyncio.Event()

    def _take(self, kind: str, event: Event) -> None:
        match event:
            case Began():
                self._fresh[kind] = set()
            case Put(key=key, object=found):
                self._put((kind, *key), found)
            case Broken(key=key, reason=reason):
                self._refuse((kind, *key), reason)
            case Removed(key=key):
                self._remove((kind, *key))
            case Complete():
                self._complete(kind)
            case Alive():
                pass

    def _put(self, seat: Seat, found: objects.Object) -> None:
        kind = seat[0]
        try:
            facts = parse(found)
        except BadField as fault:
            self._refuse(seat, str(fault))
            return
        self._remove_sentences(seat)
        if doubts := [f"{_title(seat)}: {each}" for each in strangers(kind, found.metadata)]:
            self._doubts[seat] = doubts
        self._forget_former(seat, facts)
        if facts is None:
            self._index.remove(seat)
        else:
            self._index.put(seat, self._whereabouts.tell(facts) if isinstance(facts, PodFacts) else facts)
        self._seen(seat)

    def _forget_former(self, seat: Seat, now: Facts | None = None) -> None:
        """A pod that had this name before: its addresses may be another's by now."""
        before = self._index.get(seat) if seat[0] == "Pod" else None
        same = isinstance(before, PodFacts) and isinstance(now, PodFacts) and before.workload.uid == now.workload.uid
        if isinstance(before, PodFacts) and not same:
            self._whereabouts.forget(before.workload.uid)

    def _refuse(self, seat: Seat, reason: str) -> None:
        stays = "; what it said before stays" if seat in self._index else ""
        self._faults[seat] = f"{_title(seat)}: {reason}{stays}"
        self._seen(seat)

    def _seen(self, seat: Seat) -> None:
        if (fresh := self._fresh.get(seat[0])) is not None:
            fresh.add(seat)

    def _remove(self, seat: Seat) -> None:
        self._remove_sentences(seat)
        self._forget_former(seat)
        self._index.remove(seat)
        if (fresh := self._fresh.get(seat[0])) is not None:
            fresh.discard(seat)

    def _remove_sentences(self, seat: Seat) -> None:
        self._faults.pop(seat, None)
        self._doubts.pop(seat, None)

    def _complete(self, kind: str) -> None:
        fresh = self._fresh.pop(kind, set())
        known = {*self._index.seats(kind), *(seat for seat in self._faults if seat[0] == kind)}
        for seat in known - fresh:
            self._remove(seat)
        self._listed.add(kind)


def _title(seat: Seat) -> str:
    kind, *key = seat
    return f"{FILE}: {kind} {'/'.join(filter(None, key))}"
