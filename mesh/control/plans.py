"""Snapshot -> the engine's plans, the same for every source pod and for both directions:

* {VIP, declared port}: the Service's ready endpoints of that family; none means refuse.
* {pod address, port} where a Service's endpoint, or the pod's own opaque-ports, say something about that port: the
  pod itself, ready or not (who names a pod means it). It counts for the Service if exactly one claims it; the
  protocol is believed if all claims agree.
* {pod address, 0}: the pod itself on the port that was asked for, DETECT.

Whom another node lists goes by tunnel in all of them; a pod of this node is dialled from inside.

One pod that declares a port opaque makes it opaque behind the VIP too: bytes of unknown kind pass an opaque plan, and
break in an HTTP one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from mesh.balance.ready import usable
from mesh.control.memo import Memo, PerService, patched
from mesh.control.peers import Peer
from mesh.control.select import addressed, pod_of, uid_of
from mesh.detect import declared
from mesh.model import (
    Endpoint,
    Plan,
    PlanEndpoint,
    Protocol,
    Service,
    ServicePort,
    Snapshot,
    Transport,
    Workload,
    stable_id,
)

Key = tuple[str, int]
Claim = tuple[int, Protocol]  # Service.id and what it declares
Claims = dict[Key, tuple[Claim, ...]]  # one for each time that it is said
DOMAIN = "svc.cluster.local"  # Kubernetes' own default; a name for people, nothing is resolved by it


class PlanCompiler:
    """Remembers, see mesh.control.memo."""

    def __init__(self) -> None:
        self._of_services: PerService[_Share] = PerService()
        self._around: Memo[_Around] = Memo()
        self._plans: dict[Key, Plan] = {}
        self._claims: Claims = {}
        self._vips: Collection[Key] = ()

    def compile(self, snapshot: Snapshot, slots: Mapping[str, int], peers: Mapping[str, Peer]) -> dict[Key, Plan]:
        """`slots`: workload uid -> slot, for this node's enrolled pods. Every plan under its {address, port}; the very
        same dict where nothing changed. Nobody changes what is given or returned."""
        inputs = (snapshot.workloads, snapshot.nodes, snapshot.pods, slots, peers)
        around = self._around.of(inputs, lambda: _Around(snapshot, slots, peers))
        shares = self._of_services.of(snapshot.services, inputs, around.share)
        changed = self._of_services.changed
        plans = (
            None if changed is None else patched(self._plans, ((before.plans, now.plans) for before, now in changed))
        )
        if plans is None or changed is None:
            plans = self._all(around, shares)
        else:
            plans = self._claimed(around, plans, [each for each in changed if each[0].claims != each[1].claims])
        self._plans = plans
        return plans

    def _all(self, around: _Around, shares: Sequence[_Share]) -> dict[Key, Plan]:
        found: dict[Key, Plan] = {}
        for key, plan in chain.from_iterable(share.plans for share in shares):
            found.setdefault(key, plan)  # of two Services that claim a VIP the first has it
        self._vips, self._claims = frozenset(found), {}
        for key, claim in chain.from_iterable(share.claims for share in shares):
            self._claims[key] = (*self._claims.get(key, ()), claim)
        for key in (*self._claims, *sorted(around.opaque - self._claims.keys())):
            if key not in found:  # a VIP that is also a pod's address stays a VIP
                found[key] = around.of_pod_port(key, self._claims.get(key, ()))
        for address, workload in around.pods.items():
            if (address, 0) not in found:
                found[address, 0] = around.of_pod(address, 0, workload)
        return found

    def _claimed(
        self, around: _Around, plans: dict[Key, Plan], changed: Iterable[tuple[_Share, _Share]]
    ) -> dict[Key, Plan]:
        """The same, but for ports of pods of which some Services say something else now."""
        touched: dict[Key, None] = {}
        for before, now in changed:
            for key, claim in before.claims:
                self._claims[key] = _without(self._claims[key], claim)
            for key, claim in now.claims:
                self._claims[key] = (*self._claims.get(key, ()), claim)
            touched |= dict.fromkeys(key for key, _ in (*before.claims, *now.claims))
        result = dict(plans) if touched else plans
        for key in touched:
            claims = self._claims[key]
            if not claims:
                del self._claims[key]
            if key in self._vips:
                continue
            if claims or key in around.opaque:
                result[key] = around.of_pod_port(key, claims)
            else:
                del result[key]
        return result


def compile_plans(snapshot: Snapshot, slots: Mapping[str, int], peers: Mapping[str, Peer]) -> dict[Key, Plan]:
    """Once, without a memory."""
    return PlanCompiler().compile(snapshot, slots, peers)


def protocol_of(port: ServicePort) -> Protocol:
    return declared(port.app_protocol, port.name) if port.protocol is Protocol.DETECT else port.protocol


class _Share(NamedTuple):
    """What one Service gives."""

    plans: list[tuple[Key, Plan]]  # of its VIPs
    claims: list[tuple[Key, Claim]]  # what it says of ports of known pods


def _without(claims: tuple[Claim, ...], one: Claim) -> tuple[Claim, ...]:
    at = claims.index(one)
    return claims[:at] + claims[at + 1 :]


class _Around:
    """What a plan depends on beside its Service, and how it does."""

    def __init__(self, snapshot: Snapshot, slots: Mapping[str, int], peers: Mapping[str, Peer]) -> None:
        self._slots, self._peers = slots, peers
        self.pods = addressed(snapshot)
        self.opaque = {
            (address, port)
            for pod in snapshot.pods
            for address in pod.workload.addresses
            for port in pod.opaque_ports
            if self.pods.get(address) == pod.workload
        }

    def share(self, service: Service) -> _Share:
        plans = [((vip, port.port), self._of_vip(vip, service, port)) for vip in service.vips for port in service.ports]
        claims = [
            ((each.address, each.port), (service.id, protocol_of(port)))
            for port in service.ports
            for each in port.endpoints
            if pod_of(each, self.pods) is not None
        ]
        return _Share(plans, claims)

    def _of_vip(self, vip: str, service: Service, port: ServicePort) -> Plan:
        chosen = usable(port.endpoints, vip)
        opaque = any((each.address, each.port) in self.opaque for each in chosen)
        return Plan(
            address=vip,
            port=port.port,
            service=service.id,
            host=f"{service.name}.{service.namespace}.{DOMAIN}",
            protocol=Protocol.OPAQUE if opaque else protocol_of(port),
            balancer=service.balancer,
            endpoints=tuple(self._endpoint(each) for each in chosen),
        )

    def _endpoint(self, endpoint: Endpoint) -> PlanEndpoint:
        uid, here = uid_of(endpoint, self.pods), pod_of(endpoint, self.pods) is not None
        identity, transport, node = self._peer(uid)
        return PlanEndpoint(
            id=stable_id("workload", uid) if uid else stable_id("address", endpoint.address),
            address=endpoint.address,
            port=endpoint.port,
            slot=self._slots.get(uid, -1) if here else -1,
            weight=endpoint.weight,
            peer=identity,
            transport=transport,
            node=node,
        )

    def _peer(self, uid: str) -> Peer:
        """With an empty identity for who is none."""
        return self._peers.get(uid, Peer("", Transport.HBONE))

    def of_pod_port(self, key: Key, claims: Iterable[Claim]) -> Plan:
        """`claims`: which Services say what about it."""
        said = set(claims)
        services = {service for service, _ in said}
        protocols = {protocol for _, protocol in said}
        protocol = protocols.pop() if len(protocols) == 1 else Protocol.DETECT
        return self.of_pod(
            *key,
            self.pods[key[0]],
            service=services.pop() if len(services) == 1 else 0,
            protocol=Protocol.OPAQUE if key in self.opaque else protocol,
        )

    def of_pod(
        self, address: str, port: int, workload: Workload, service: int = 0, protocol: Protocol = Protocol.DETECT
    ) -> Plan:
        slot = self._slots.get(workload.uid, -1)
        identity, transport, node = self._peer(workload.uid)
        itself = PlanEndpoint(
            id=workload.id, address=address, port=port, slot=slot, peer=identity, transport=transport, node=node
        )
        return Plan(address=address, port=port, service=service, protocol=protocol, endpoints=(itself,))
