"""What Kiali asks Prometheus for its graph, and which answers it draws; from kiali's graph/telemetry/istio.

The queries are its own (istio.go and appender/response_time.go of the 2.x series), with its reporters for the source
and destination views. An answer without one of the labels that it needs is skipped there, so it is an error here.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.kit.prometheus import Labels, Prometheus

ENDS = (
    "source_cluster,source_workload_namespace,source_workload,source_canonical_service,source_canonical_revision,"
    "destination_cluster,destination_service_namespace,destination_service,destination_service_name,"
    "destination_workload_namespace,destination_workload,destination_canonical_service,destination_canonical_revision"
)
HTTP = f"{ENDS},request_protocol,response_code,grpc_response_status,response_flags"
TCP = f"app,{ENDS},response_flags"
OPTIONAL = {"grpc_response_status", "app"}
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Edge:
    """An arrow of the graph."""

    source: str
    service: str
    destination: str
    protocol: str
    code: str = "-"


def _queries(metric: str, group: str, namespace: str, seconds: int) -> list[str]:
    unserved = (
        f'reporter=~"source",source_workload_namespace!="{namespace}",destination_workload_namespace="unknown",'
        f'destination_workload="unknown",destination_service=~"^.+\\\\.{namespace}\\\\..+$"'
    )
    views = [
        unserved,
        f'reporter=~"destination",destination_workload_namespace="{namespace}"',
        f'reporter=~"source",source_workload_namespace="{namespace}"',
    ]
    return [f"round(sum(rate({metric}{{{view}}} [{seconds}s])) by ({group}) > 0,0.001)" for view in views]


def _edge(labels: Labels, group: str, protocol: str) -> Edge | None:
    missing = [label for label in group.split(",") if label not in OPTIONAL and not labels.get(label)]
    assert not missing, f"Kiali skips {labels}, it lacks {missing}"
    source_known = labels["source_workload_namespace"] != UNKNOWN
    if source_known and UNKNOWN in (labels["source_workload"], labels["source_cluster"]):
        return None  # util.IsBadSourceTelemetry
    if labels["destination_service_namespace"] != UNKNOWN and labels["destination_cluster"] == UNKNOWN:
        return None  # util.IsBadDestTelemetry
    source, destination = labels["source_workload"], labels["destination_workload"]
    spoken, code = labels.get("request_protocol", protocol), labels.get("response_code", "-")
    return Edge(source, labels["destination_service_name"], destination, spoken, code)


def graph(prometheus: Prometheus, namespace: str, seconds: int) -> dict[Edge, float]:
    """Every edge of a namespace that had traffic in the last `seconds`, with its rate."""
    found: dict[Edge, float] = {}
    for metric, group in (("istio_requests_total", HTTP), ("istio_tcp_sent_bytes_total", TCP)):
        for query in _queries(metric, group, namespace, seconds):
            for labels, rate in prometheus.query(query):
                if (edge := _edge(labels, group, "tcp")) is not None:
                    found[edge] = max(rate, found.get(edge, 0.0))  # seen from both ends, drawn once
    return found


def response_times_ms(prometheus: Prometheus, namespace: str, quantile: float, seconds: int) -> dict[str, float]:
    """By destination workload, as the destination reports."""
    group = f"le,{ENDS},request_protocol"
    query = (
        f"round(histogram_quantile({quantile:.2f}, sum(rate(istio_request_duration_milliseconds_bucket"
        f'{{reporter=~"destination|waypoint",destination_service_namespace="{namespace}"}}[{seconds}s])) by ({group}))'
        " > 0,0.001)"
    )
    return {labels["destination_workload"]: value for labels, value in prometheus.query(query)}
