"""Whom the ids in the counters mean.

The engine counts by 64-bit ids and knows no names. An id that is not listed is "unknown" in metrics, which is what
Istio's proxies say too, and what Kiali expects. What is behind a service is found out when it is asked for: a large
cluster has 100 000 endpoints, and its node calls a few of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from mesh.model import AuthorizationPolicy, ServicePort, Snapshot, Value, Workload, stable_id

UNKNOWN = "unknown"


class Party(Value, frozen=True):
    """A workload as metrics name it. `enrolled`: a pod of this node that is in the mesh, so that we are its proxy."""

    namespace: str = UNKNOWN
    workload: str = UNKNOWN
    pod: str = UNKNOWN
    app: str = UNKNOWN
    version: str = UNKNOWN
    enrolled: bool = False
    principal: str = UNKNOWN  # whom it would prove to be, as a SPIFFE id


NOBODY = Party()


class Called(Value, frozen=True):
    """A service."""

    namespace: str = ""
    name: str = ""
    ports: tuple[ServicePort, ...] = ()

    def endpoints(self) -> dict[int, Party]:
        """Whoever is behind it, by id, each once; as they are called where nobody knows more than their addresses."""
        found: dict[int, Party] = {}
        for endpoint in (each for port in self.ports for each in port.endpoints):
            uid = endpoint.workload_uid
            id = stable_id("workload", uid) if uid else stable_id("address", endpoint.address)
            found.setdefault(id, Party(pod=endpoint.address))
        return found


NO_SERVICE = Called()


class PolicyName(Value, frozen=True):
    namespace: str
    name: str
    action: str
    dry_run: bool = False


class Names(Value, frozen=True):
    parties: Mapping[int, Party] = {}
    services: Mapping[int, Called] = {}
    policies: Mapping[int, PolicyName] = {}


def _party(workload: Workload, enrolled: bool, trust_domain: str) -> Party:
    owner = workload.owner or workload.name
    return Party(
        namespace=workload.namespace,
        workload=owner,
        pod=workload.name,
        app=workload.app or owner,
        version=workload.version or "latest",  # Istio's canonical revision of what names none
        enrolled=enrolled,
        principal=workload.identity(trust_domain),
    )


def _policy(policy: AuthorizationPolicy) -> PolicyName:
    return PolicyName(namespace=policy.namespace, name=policy.name, action=policy.action, dry_run=policy.dry_run)


def names_of(snapshot: Snapshot, trust_domain: str) -> Names:
    ours = {pod.workload.uid for pod in snapshot.pods if pod.enrolled and not pod.refused}
    listed = (workload for node in snapshot.nodes for workload in node.workloads)
    workloads = {w.uid: w for w in (*listed, *snapshot.workloads, *(pod.workload for pod in snapshot.pods))}
    parties = {w.id: _party(w, w.uid in ours, trust_domain) for w in workloads.values()}
    services = {
        each.id: Called(namespace=each.namespace, name=each.name, ports=each.ports) for each in snapshot.services
    }
    return Names(parties=parties, services=services, policies={each.id: _policy(each) for each in snapshot.policies})
