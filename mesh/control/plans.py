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
from collections.abc import Mapping

from mesh.balance.ready import usable
from mesh.control.peers import Peer
from mesh.control.select import addressed, pod_of, uid_of, virtual
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
DOMAIN = "svc.cluster.local"  # Kubernetes' own default; a name for people, nothing is resolved by it


def compile_plans(snapshot: Snapshot, slots: Mapping[str, int], peers: Mapping[str, Peer]) -> dict[Key, Plan]:
    """`slots`: workload uid -> slot, for this node's enrolled pods. Every plan under its {address, port}."""
    return _Compiler(snapshot, slots, peers).run()


def protocol_of(port: ServicePort) -> Protocol:
    return declared(port.app_protocol, port.name) if port.protocol is Protocol.DETECT else port.protocol


class _Compiler:
    def __init__(self, snapshot: Snapshot, slots: Mapping[str, int], peers: Mapping[str, Peer]) -> None:
        self._snapshot, self._slots, self._peers = snapshot, slots, peers
        self._pods = addressed(snapshot)
        self._opaque = {
            (address, port)
            for pod in snapshot.pods
            for address in pod.workload.addresses
            for port in pod.opaque_ports
            if self._pods.get(address) == pod.workload
        }

    def run(self) -> dict[Key, Plan]:
        plans = [self._of_vip(vip, service, port) for vip, service, port in virtual(self._snapshot)]
        plans += [self._of_pod_port(key, claims) for key, claims in self._claims().items()]
        plans += [self._of_pod(address, 0, workload) for address, workload in self._pods.items()]
        found: dict[Key, Plan] = {}
        for plan in plans:
            found.setdefault((plan.address, plan.port), plan)  # a VIP that is also a pod's address stays a VIP
        return found

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
        identity, transport = self._peer(uid)
        return PlanEndpoint(
            id=stable_id("workload", uid) if uid else stable_id("address", endpoint.address),
            address=endpoint.address,
            port=endpoint.port,
            slot=self._slots.get(uid, -1) if here else -1,
            weight=endpoint.weight,
            peer=identity,
            transport=transport,
        )

    def _peer(self, uid: str) -> Peer:
        """With an empty identity for who is none."""
        return self._peers.get(uid, Peer("", Transport.HBONE))

    def _claims(self) -> dict[Key, set[tuple[int, Protocol]]]:
        """Which Services say what about a port of a known pod; no entry for ports nobody speaks of."""
        claims: dict[Key, set[tuple[int, Protocol]]] = defaultdict(set)
        for service in self._snapshot.services:
            for port in service.ports:
                for each in port.endpoints:
                    if pod_of(each, self._pods) is not None:
                        claims[each.address, each.port].add((service.id, protocol_of(port)))
        for key in sorted(self._opaque):
            claims.setdefault(key, set())
        return claims

    def _of_pod_port(self, key: Key, claims: set[tuple[int, Protocol]]) -> Plan:
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
        identity, transport = self._peer(workload.uid)
        itself = PlanEndpoint(id=workload.id, address=address, port=port, slot=slot, peer=identity, transport=transport)
        return Plan(address=address, port=port, service=service, protocol=protocol, endpoints=(itself,))
