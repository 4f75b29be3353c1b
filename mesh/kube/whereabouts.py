"""Addresses of this node's pods, from two tellers: the API server, and the CNI chain, which knows them first.

Between the two a pod has its network and the API server does not say so yet; and an address may be a new pod's already
while its former owner's object is still there. So what CNI said holds, and takes the address from everybody else,
until the pod's object goes or says something that it did not say at that moment. Pure.
"""

from __future__ import annotations

from msgspec import structs

from mesh.kube.parse import PodFacts
from mesh.model import Value

SAID_MAX = 1024  # pods of whom CNI spoke; the oldest is forgotten first. A node has at most 500


class _Said(Value):
    addresses: tuple[str, ...]
    stale: tuple[str, ...]  # what the API server said then


class Whereabouts:
    def __init__(self) -> None:
        self._told: dict[str, PodFacts] = {}  # by uid, as the API server has them
        self._said: dict[str, _Said] = {}  # by uid
        self._owners: dict[str, str] = {}  # address -> uid, by CNI

    def tell(self, facts: PodFacts) -> PodFacts:
        """What the API server says -> what is so."""
        uid, addresses = facts.workload.uid, facts.workload.addresses
        self._told[uid] = facts
        said = self._said.get(uid)
        if said is not None and addresses and addresses not in (said.addresses, said.stale):
            self.drop(uid)
        return self._settled(facts)

    def say(self, uid: str, addresses: tuple[str, ...]) -> list[PodFacts]:
        """What CNI says -> every pod for which something else is so now."""
        told = self._told.get(uid)
        self.drop(uid)
        losers = {self._owners[address] for address in addresses if address in self._owners}
        for loser in losers:
            self.drop(loser)
        while len(self._said) >= SAID_MAX:
            self.drop(next(iter(self._said)))
        self._said[uid] = _Said(addresses=addresses, stale=told.workload.addresses if told else ())
        self._owners |= dict.fromkeys(addresses, uid)
        return [
            self._settled(facts)
            for other, facts in self._told.items()
            if other == uid or other in losers or set(addresses) & set(facts.workload.addresses)
        ]

    def drop(self, uid: str) -> None:
        """What CNI said of it holds no more."""
        said = self._said.pop(uid, None)
        for address in said.addresses if said else ():
            del self._owners[address]

    def forget(self, uid: str) -> None:
        """Its object is gone."""
        self._told.pop(uid, None)
        self.drop(uid)

    def _settled(self, facts: PodFacts) -> PodFacts:
        workload = facts.workload
        if workload.host_network:
            return facts
        said = self._said.get(workload.uid)
        kept = tuple(each for each in workload.addresses if self._owners.get(each, workload.uid) == workload.uid)
        addresses = said.addresses if said else kept
        if addresses == workload.addresses:
            return facts
        return structs.replace(facts, workload=structs.replace(workload, addresses=addresses))
