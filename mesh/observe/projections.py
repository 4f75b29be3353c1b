"""Which label values a flow has in each table: one function per table, in the order of mesh.observe.families.

Istio's view has a reporter: the client's proxy says "source", the server's says "destination". We are the client's
proxy of every outbound connection, and the server's too when the endpoint is an enrolled pod of this node: such a
request goes through one hop and is reported by both, once each.

The server's side says what protected a connection: mutual_tls of a tunnel, else none; the client's says unknown, as
Istio's does. Between two pods of a node there is no TLS, and that is what is said, though the kernel has proven both:
so `none` with two principals means that no byte left the machine, and Kiali draws the padlock for tunnels only.
Principals are named where both are proven, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mesh.model import Direction, Security
from mesh.observe.names import UNKNOWN, Party
from mesh.observe.traffic import Counts, Flow, Labels

CLUSTER = "Kubernetes"  # Istio's and Kiali's name of the only cluster
DOMAIN = "svc.cluster.local"


def _edge(flow: Flow) -> Labels:
    source, service, destination = flow.source, flow.service, flow.destination
    return (
        flow.series.direction.name.lower(),
        source.namespace,
        source.workload,
        service.namespace or UNKNOWN,
        service.name or UNKNOWN,
        destination.namespace,
        destination.workload,
    )


def edge(flow: Flow, counts: Counts) -> Iterable[Labels]:
    if counts.requests or counts.request_bytes or counts.response_bytes:
        yield _edge(flow)


def request(flow: Flow, counts: Counts) -> Iterable[Labels]:
    if counts.requests:
        code = str(flow.series.code) if flow.series.code else ""
        yield (*_edge(flow), flow.source.pod, flow.destination.pod, code, flow.flag)


def connection(flow: Flow, counts: Counts) -> Iterable[Labels]:
    if counts.opened or counts.closed:
        yield (*_edge(flow)[:5], flow.series.protocol)


def _reporters(flow: Flow) -> Iterable[str]:
    if flow.series.direction is Direction.OUTBOUND:
        yield "source"
    one_hop = flow.destination.enrolled and flow.series.security is Security.NONE  # a tunnel's other end counts itself
    if flow.series.direction is Direction.INBOUND or one_hop:
        yield "destination"


def _party(party: Party, cluster: str, proven: bool) -> Labels:
    return (
        party.workload,
        party.namespace,
        party.app,
        party.version,
        party.principal if proven else UNKNOWN,
        party.app,
        party.version,
        cluster,
    )


def _service(flow: Flow) -> Labels:
    """Host, name and namespace; a pod addressed without its service is its own namespace's, or Kiali has no edge."""
    service = flow.service
    if service.name:
        return f"{service.name}.{service.namespace}.{DOMAIN}", service.name, service.namespace
    return UNKNOWN, UNKNOWN, flow.destination.namespace


def istio(cluster: str = CLUSTER) -> Callable[[Flow, Counts], Iterable[Labels]]:
    def project(flow: Flow, counts: Counts) -> Iterable[Labels]:
        if flow.http and not counts.requests:
            return  # its connection; Istio has no metric for it
        source_known = flow.source.workload != UNKNOWN
        known = flow.service.name or flow.destination.workload != UNKNOWN
        source = _party(flow.source, cluster if source_known else UNKNOWN, flow.proven)
        destination = _party(flow.destination, cluster if known else UNKNOWN, flow.proven)
        for reporter in _reporters(flow):
            yield (
                reporter,
                *source,
                *_service(flow),
                *destination,
                "http" if flow.http else "tcp",
                flow.flag or "-",
                UNKNOWN if reporter == "source" else str(flow.series.security),
                str(flow.series.code) if flow.http else "0",
            )

    return project
