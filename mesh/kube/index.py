"""Facts that come and go one by one -> Snapshot, at the price of what changed.

A cluster has 10 000 Services and 100 000 endpoints, and its EndpointSlices change all the time: a change of one costs
the one Service that it is of, which is a new value in the next snapshot while all others stay the same objects (whoever
compiles them may go by that). Everything else is rare and goes through `assemble` as a whole, 50 ms at that size.
Pure: the same facts in the same order give the same snapshots, and the same as `assemble` would.
"""

from __future__ import annotations

from collections import defaultdict

from msgspec import structs

from mesh.kube.assemble import Placed, Resolver, assemble, match_slices, populate
from mesh.kube.listings import Seats
from mesh.kube.mesh_node import MeshNodeFacts
from mesh.kube.parse import Facts, PodFacts, ServiceFacts, SliceFacts
from mesh.model import Mtls, Service, Snapshot

FILE = "API server"  # where facts are from, in sentences

Seat = tuple[str, str, str]  # kind, namespace, name


class Index:
    """`node`, `mtls`: see `assemble`."""

    def __init__(self, node: str, mtls: Mtls) -> None:
        self._node, self._mtls = node, mtls
        self._facts: dict[Seat, Facts] = {}  # without slices
        self._slices: dict[str, dict[Seat, SliceFacts]] = defaultdict(dict)  # by title of their Service
        self._service_of: dict[Seat, str] = {}  # of each slice
        self._loose: set[str] = set()  # titles of Services that have endpoints known by address or name only
        self._seats: Seats = frozenset()
        self._base: Snapshot | None = None  # everything but endpoints
        self._resolve = Resolver((), ())
        self._bare: dict[str, Service] = {}  # by title, without endpoints
        self._services: dict[str, Service] = {}  # by title, in order, with them
        self._warnings: dict[str, list[str]] = {}  # by title
        self._dirty: set[str] = set()

    def __len__(self) -> int:
        return len(self._facts) + len(self._service_of)

    def __contains__(self, seat: Seat) -> bool:
        return seat in self._facts or seat in self._service_of

    def get(self, seat: Seat) -> Facts | None:
        """Not of slices."""
        return self._facts.get(seat)

    def put(self, seat: Seat, facts: Facts) -> None:
        if isinstance(facts, SliceFacts):
            title = f"Service {facts.namespace}/{facts.service}"
            if self._slices[title].get(seat) == facts:  # a list brings again what was known
                return
            if self._service_of.get(seat, title) != title:
                self._drop_slice(seat)
            self._slices[title][seat] = facts
            self._service_of[seat] = title
            self._dirty.add(title)
        elif self._facts.get(seat) != facts:  # heartbeats of Nodes change nothing that we read
            self._base = None
            self._touch(self._facts.get(seat), facts)
            self._facts[seat] = facts

    def remove(self, seat: Seat) -> None:
        if seat in self._service_of:
            self._drop_slice(seat)
        elif seat in self._facts:
            self._base = None
            self._touch(self._facts.pop(seat), None)

    def seats(self, kind: str) -> list[Seat]:
        return [seat for seat in (*self._facts, *self._service_of) if seat[0] == kind]

    @property
    def changed(self) -> bool:
        return self._base is None or bool(self._dirty)

    def snapshot(self) -> Snapshot:
        base = self._base or self._rebase()
        for title in self._dirty & self._services.keys():
            self._populate(title)
        self._dirty.clear()
        warnings = (warning for each in self._warnings.values() for warning in each)
        return structs.replace(base, services=tuple(self._services.values()), warnings=(*base.warnings, *warnings))

    def _drop_slice(self, seat: Seat) -> None:
        title = self._service_of.pop(seat)
        del self._slices[title][seat]
        if not self._slices[title]:
            del self._slices[title]
        self._dirty.add(title)

    def _touch(self, before: Facts | None, now: Facts | None) -> None:
        """Whose endpoints may be others now: of Services in a pod's namespace, and of those known by address only."""
        pods = {each.workload.namespace for each in (before, now) if isinstance(each, PodFacts)}
        if pods or isinstance(before or now, MeshNodeFacts):
            prefixes = tuple(f"Service {namespace}/" for namespace in pods)
            self._dirty |= {title for title in self._slices if title.startswith(prefixes)} | self._loose

    def _rebase(self) -> Snapshot:
        placed = (Placed(file=FILE, line=0, facts=facts) for facts in self._facts.values())
        base, self._seats = assemble(placed, self._node, self._seats, self._mtls)
        pods = sorted(
            (each for each in self._facts.values() if isinstance(each, PodFacts)), key=lambda each: each.title
        )
        known = {each.uid for each in base.workloads}
        self._resolve = Resolver((each for each in pods if each.workload.uid in known), base.nodes)
        bare = {f"Service {each.namespace}/{each.name}": each for each in base.services}
        self._dirty |= {title for title, service in bare.items() if self._bare.get(title) != service}
        self._services = {title: self._services.get(title, service) for title, service in bare.items()}
        self._warnings = {title: said for title, said in self._warnings.items() if title in bare}
        self._bare, self._base = bare, structs.replace(base, services=())
        return self._base

    def _populate(self, title: str) -> None:
        slices = self._slices.get(title, {})
        service = self._bare[title]
        placed = [Placed(file=FILE, line=0, facts=each) for each in slices.values()]
        _, warnings = match_slices(placed, [ServiceFacts(service=service)])
        if warnings or title in self._warnings:
            self._warnings[title] = warnings
        loose = any(not each.uid for piece in slices.values() for each in piece.endpoints)
        (self._loose.add if loose else self._loose.discard)(title)
        self._services[title] = populate(service, list(slices.values()), self._resolve)
