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

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mesh.balance.ready import usable
from mesh.control.memo import PerService, patched
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
DOMAIN = "svc.cluster.local"  # Kubernetes' own default; a name for people, nothing is resolved by it


class PlanCompiler:
    """Remembers, see mesh.control.memo."""

    def __init__(self) -> None:
        self._of_services: PerService[_Share] = PerService()
        self._plans: dict[Key, Plan] = {}

    def compile(self, snapshot: Snapshot, slots: Mapping[str, int], peers: Mapping[str, Peer]) -> dict[Key, Plan]:
        """`slots`: workload uid -> slot, for this node's enrolled pods. Every plan under its {address, port}; the very
        same dict where nothing changed."""
        compiler = _Compiler(snapshot, slots, peers)
        around = (snapshot.workloads, snapshot.nodes, snapshot.pods, dict(slots), dict(peers))
        shares = self._of_services.of(snapshot.services, around, compiler.share)
        patched_plans = self._patched()
        self._plans = compiler.run(shares) if patched_plans is None else patched_plans
        return self._plans

    def _patched(self) -> dict[Key, Plan] | None:
        changed = self._of_services.changed
        if changed is None or any(before.claims != now.claims for before, now in changed):
            return None
        return patched(self._plans, ((before.plans, now.plans) for before, now in changed))


def compile_plans(snapshot: Snapshot, slots: Mapping[str, int], peers: Mapping[str, Peer]) -> dict[Key, Plan]:
    """Once, without a memory."""
    return PlanCompiler().compile(snapshot, slots, peers)


def protocol_of(port: ServicePort) -> Protocol:
    return declared(port.app_protocol, port.name) if port.protocol is Protocol.DETECT else port.protocol


class _Share(NamedTuple):
    """What one Service gives."""

    plans: list[tuple[Key, Plan]]  # of its VIPs
    claims: list[tuple[Key, Claim]]  # what it says of ports of known pods


class _Compiler:
    def __init__(self, snapshot: Snapshot, slots: Mapping[str, int], peers: Mapping[str, Peer]) -> None:
        self._slots, self._peers = slots, peers
        self._pods = addressed(snapshot)
        self._opaque = {
            (address, port)
            for pod in snapshot.pods
            for address in pod.workload.addresses
            for port in pod.opaque_ports
            if self._pods.get(address) == pod.workload
        }

    def run(self, shares: Sequence[_Share]) -> dict[Key, Plan]:
        found: dict[Key, Plan] = {}
        for share in shares:
            for key, plan in share.plans:
                found.setdefault(key, plan)  # of two Services that claim a VIP the first has it
        for key, claims in self._claims(shares).items():
            if key not in found:  # a VIP that is also a pod's address stays a VIP
                found[key] = self._of_pod_port(key, claims)
        for address, workload in self._pods.items():
            if (address, 0) not in found:
                found[address, 0] = self._of_pod(address, 0, workload)
        return found

    def share(self, service: Service) -> _Share:
        plans = [((vip, port.port), self._of_vip(vip, service, port)) for vip in service.vips for port in service.ports]
        claims = [
            ((each.address, each.port), (service.id, protocol_of(port)))
            for port in service.ports
            for each in port.endpoints
            if pod_of(each, self._pods) is not None
        ]
        return _Share(plans, claims)

    def _of_vip(self, vip: str, service: Service, port: ServicePort) -> Plan:
        chosen = usable(port.endpoints, vip)
        opaque = any((each.address, each.port) in self._opaque for each in chosen)
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
        uid, here = uid_of(endpoint, self._pods), pod_of(endpoint, self._pods) is not None
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

    def _claims(self, shares: Iterable[_Share]) -> dict[Key, set[Claim]]:
        """Which Services say what about a port of a known pod; no entry for ports nobody speaks of."""
        claims: dict[Key, set[Claim]] = defaultdict(set)
        for share in shares:
            for key, claim in share.claims:
                claims[key].add(claim)
        for key in sorted(self._opaque):
            claims.setdefault(key, set())
        return claims

    def _of_pod_port(self, key: Key, claims: set[Claim]) -> Plan:
        services = {service for service, _ in claims}
        protocols = {protocol for _, protocol in claims}
        protocol = protocols.pop() if len(protocols) == 1 else Protocol.DETECT
        return self._of_pod(
            *key,
            self._pods[key[0]],
            service=services.pop() if len(services) == 1 else 0,
            protocol=Protocol.OPAQUE if key in self._opaque else protocol,
        )

    def _of_pod(
        self, address: str, port: int, workload: Workload, service: int = 0, protocol: Protocol = Protocol.DETECT
    ) -> Plan:
        slot = self._slots.get(workload.uid, -1)
        identity, transport, node = self._peer(workload.uid)
        itself = PlanEndpoint(
            id=workload.id, address=address, port=port, slot=slot, peer=identity, transport=transport, node=node
        )
        return Plan(address=address, port=port, service=service, protocol=protocol, endpoints=(itself,))
