"""Every metric that Seine exposes: name, kind, help and labels, declared once.

`seine_*` are ours: base units, totals that end in _total. `istio_*` carry the labels of Istio's standard metrics:
Kiali drops every series that lacks one of them. Istio's two TCP byte counters are named from the server's view of
the client: "sent" is what went to the client, "received" what came from it (istio/istio#32399).
The engine's counters are as many as the engine has; they are named seine_engine_NAME_total by their own names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

Kind = Literal["counter", "gauge", "histogram"]
_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("", "_bucket", "_sum", "_count")}


class Family(NamedTuple):
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    def plain(self) -> CounterMetricFamily | GaugeMetricFamily:
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        return make(self.name, self.help, labels=self.labels)

    def histogram(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self.name, self.help, labels=self.labels)

    def asked_for(self, names: Sequence[str]) -> bool:
        """`names`: of samples or of families; none: all."""
        return not names or any(self.name + suffix in names for suffix in _SUFFIXES[self.kind])


# --- traffic, ours

EDGE = (
    "direction",
    "source_namespace",
    "source_workload",
    "service_namespace",
    "service",
    "destination_namespace",
    "destination_workload",
)
REQUEST = (*EDGE, "source_pod", "destination_pod", "http_response_status_code", "response_flags")
CONNECTION = ("direction", "source_namespace", "source_workload", "service_namespace", "service", "protocol")

REQUESTS = Family("seine_requests_total", "counter", "HTTP requests that ended, with or without a response.", REQUEST)
DURATION = Family(
    "seine_request_duration_seconds",
    "histogram",
    "From the first byte of an HTTP request to the last byte of its response, at the proxy.",
    EDGE,
)
REQUEST_BYTES = Family("seine_request_bytes_total", "counter", "Payload from clients to servers.", EDGE)
RESPONSE_BYTES = Family("seine_response_bytes_total", "counter", "Payload from servers to clients.", EDGE)
CONNECTIONS = Family("seine_connections_total", "counter", "Client connections accepted by the proxy.", CONNECTION)
CONNECTIONS_OPEN = Family("seine_connections_open", "gauge", "Client connections open now.", CONNECTION)

DURATION_BOUNDS_US = (
    *(100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000),
    *(1000000, 2500000, 5000000, 10000000),
)

# --- traffic, as Istio names it

ISTIO_TCP = (
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_canonical_service",
    "source_canonical_revision",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "destination_workload",
    "destination_workload_namespace",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
)
ISTIO = (*ISTIO_TCP, "response_code")

ISTIO_REQUESTS = Family("istio_requests_total", "counter", "HTTP requests.", ISTIO)
ISTIO_DURATION = Family("istio_request_duration_milliseconds", "histogram", "Duration of HTTP requests.", ISTIO)
ISTIO_REQUEST_BYTES = Family("istio_request_bytes", "histogram", "HTTP request bodies; sum and count only.", ISTIO)
ISTIO_RESPONSE_BYTES = Family("istio_response_bytes", "histogram", "HTTP response bodies; sum and count only.", ISTIO)
ISTIO_TCP_OPENED = Family("istio_tcp_connections_opened_total", "counter", "TCP connections opened.", ISTIO_TCP)
ISTIO_TCP_CLOSED = Family("istio_tcp_connections_closed_total", "counter", "TCP connections closed.", ISTIO_TCP)
ISTIO_TCP_SENT = Family("istio_tcp_sent_bytes_total", "counter", "Bytes sent to TCP clients.", ISTIO_TCP)
ISTIO_TCP_RECEIVED = Family("istio_tcp_received_bytes_total", "counter", "Bytes received from TCP clients.", ISTIO_TCP)
ISTIO_BUILD = Family("istio_build", "gauge", "Always 1; what reports the istio_* metrics.", ("component", "tag"))

# The low end of Istio's own bounds; nothing of ours lasts longer than a minute and is still worth a bucket.
ISTIO_BOUNDS_MS = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000)

# --- the node

POD = ("namespace", "pod")
POD_STATE = Family("seine_pod_state", "gauge", "1 for the state a pod is in, 0 for the others.", (*POD, "state"))
POD_BYPASSING = Family("seine_pod_bypassing_connections", "gauge", "Connections older than the pod's capture.", POD)
POD_IDENTITY = Family(
    "seine_pod_identity_info",
    "gauge",
    "Always 1: what a pod accepts, and as whom it is known.",
    (*POD, "mtls", "identity"),
)
PEER_WORKLOADS = Family("seine_peer_workloads", "gauge", "Pods that another node lists.", ("node", "transport"))
PEER_MISSING = Family(
    "seine_peer_list_missing_seconds",
    "gauge",
    "Since another node's list of pods is gone without a goodbye; what it said last holds. 0: it is there.",
    ("node",),
)
PEER_LISTS_LOST = Family("seine_peer_lists_lost_total", "counter", "Lists of other nodes that went without a goodbye.")
ANNOUNCED = Family("seine_announced_workloads", "gauge", "Pods of this node that the other nodes are told of.")
CAPTURE = Family("seine_capture_events_total", "counter", "What the kernel hooks did, by reason.", (*POD, "reason"))
STOCK = Family("seine_socket_stock", "gauge", "Unconnected sockets that workers hold.", (*POD, "family"))
QUIC_UP = Family("seine_quic_up", "gauge", "1 while the QUIC process is connected. No series where nobody asks for it.")
QUIC_RESTARTS = Family("seine_quic_restarts_total", "counter", "QUIC processes that had to be replaced.")
QUIC_NOW = Family("seine_quic_open", "gauge", "Connections to other nodes, streams on them, workers.", ("what",))
QUIC_EVENTS = Family(
    "seine_quic_events_total",
    "counter",
    "What the QUIC process did or met, and why: handshakes, streams, bytes, refusals, fallbacks, datagrams dropped.",
    ("what", "why"),
)
QUIC_WAY = Family("seine_quic_way", "gauge", "1 while a node is reached by QUIC, 0 while by HBONE instead.", ("node",))
WORKER_UP = Family("seine_worker_up", "gauge", "1 while the worker is connected and its heart beats.", ("worker",))
WORKER_RESTARTS = Family("seine_worker_restarts_total", "counter", "Workers that had to be replaced.", ("worker",))
WORKER_HEARTBEAT = Family("seine_worker_heartbeat_age_seconds", "gauge", "Since its last heartbeat.", ("worker",))
SOURCE_AGE = Family("seine_source_age_seconds", "gauge", "Since the source of objects was last read successfully.")
SOURCE_UNCHANGED = Family("seine_source_unchanged_seconds", "gauge", "Since the source's objects last changed.")
SOURCE_WARNINGS = Family(
    "seine_source_warnings", "gauge", "What objects say and is not understood; see `seine status`."
)
SOURCE_LISTS = Family(
    "seine_source_lists_total", "counter", "Times that the API server was asked for all objects of a kind.", ("kind",)
)
SOURCE_FAILURES = Family(
    "seine_source_failures_total",
    "counter",
    "Refusals, lost connections and answers without sense, by kind.",
    ("kind",),
)
SOURCE_ERRORS = Family("seine_source_errors", "gauge", "Objects refused now; `seine status` says which and why.")
SHORTCUT_SOCKETS = Family("seine_shortcut_sockets_total", "counter", "Sockets that entered the kernel short-cut.", POD)
SHORTCUT_MESSAGES = Family("seine_shortcut_messages_total", "counter", "Messages sent past TCP.", POD)
SHORTCUT_BYTES = Family("seine_shortcut_bytes_total", "counter", "Bytes sent past TCP.", POD)
SHORTCUT_FALLBACKS = Family(
    "seine_shortcut_fallbacks_total", "counter", "Directions of connections that went to TCP.", (*POD, "reason")
)
SHORTCUT = Family("seine_shortcut_available", "gauge", "1 when the kernel short-cut passed its self-test.")
REPAIRS = Family("seine_capture_repairs_total", "counter", "Hooks that somebody detached and that were put back.")
CNI_PODS = Family(
    "seine_cni_pods_total", "counter", "New pods that the CNI chain told us of, by what became of them.", ("result",)
)
CNI_INSTALLED = Family("seine_cni_installed", "gauge", "1 while the node's network configuration has our entry.")
CNI_REPAIRS = Family(
    "seine_cni_repairs_total", "counter", "Entries and programs of ours that somebody removed and that were put back."
)
NODE_ROUTES = Family("seine_node_routes", "gauge", "Networks of other nodes' pods, by who routes them.", ("standing",))
NODE_ROUTE_REPAIRS = Family(
    "seine_node_route_repairs_total",
    "counter",
    "Routes and rules that somebody removed and that were put back.",
)
CERTIFICATE_END = Family(
    "seine_identity_certificate_expiry_timestamp_seconds", "gauge", "When a certificate ends.", ("identity",)
)
CERTIFICATES_MISSING = Family(
    "seine_identity_certificates_missing", "gauge", "Identities of pods without a certificate."
)
CERTIFICATES = Family(
    "seine_identity_certificates_total", "counter", "Certificates issued, renewed and expired.", ("event",)
)
ROOT_END = Family("seine_identity_root_expiry_timestamp_seconds", "gauge", "When a root ends.", ("root", "state"))
AUTHORITY_AGE = Family(
    "seine_identity_authority_age_seconds", "gauge", "Since the authority last answered, or the agent began."
)
AUTHORITY_SKEW = Family(
    "seine_identity_authority_clock_skew_seconds", "gauge", "By how much its clock was ahead when it last answered."
)
AUTHORITY_FAILURES = Family(
    "seine_identity_authority_failures_total", "counter", "What was asked of the authority in vain.", ("reason",)
)
DENIED = Family("seine_identity_denied", "gauge", "SPIFFE ids and serial numbers that are denied now.")
SIGNER_UP = Family("seine_signer_up", "gauge", "1 while the process that has the private keys is connected.")
SIGNER_RESTARTS = Family("seine_signer_restarts_total", "counter", "Signers that had to be replaced.")
SIGNER_KEYS = Family("seine_signer_keys", "gauge", "Private keys that the signer has.")
SIGNATURES = Family("seine_identity_signatures_total", "counter", "Handshakes signed.")
SIGNATURES_REFUSED = Family(
    "seine_identity_signatures_refused_total", "counter", "Signatures that workers asked for in vain.", ("reason",)
)
AUTHZ = Family(
    "seine_authz_total",
    "counter",
    "Connections and requests that a policy allowed, denied, audited, or would have; none named: no ALLOW policy did.",
    ("policy_namespace", "policy", "action", "verdict"),
)
ROWS = Family("seine_series", "gauge", "Rows of label values kept, by table.", ("table",))
OVERFLOWED = Family("seine_series_overflow_total", "counter", "Counts moved to the row named overflow.", ("table",))
BUILD = Family("seine_build_info", "gauge", "Always 1.", ("version", "kernel", "node"))


def engine(name: str, kind: Literal["counter", "gauge"]) -> Family:
    clean = re.sub(r"[^a-z0-9_]", "_", name.lower()).removesuffix("_total")
    full = f"seine_engine_{clean}_total" if kind == "counter" else f"seine_engine_{clean}"
    return Family(full, kind, f"The workers' {kind} {clean}.", ("worker",))
