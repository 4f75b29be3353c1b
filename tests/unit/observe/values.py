"""A small world for the tests of observe and cli: clients and a web service of two replicas, one of them elsewhere."""

from __future__ import annotations

from typing import Any

import msgspec

from mesh.model import Direction, Endpoint, FailMode, Mtls, PodState, Series, ServicePort, stable_id
from mesh.observe.names import Called, Names, Party
from mesh.observe.status import (
    CertificateStatus,
    CniStatus,
    DenialStatus,
    IdentityStatus,
    PodStatus,
    RootStatus,
    ServiceStatus,
    SignerStatus,
    SourceStatus,
    StatusDocument,
    WorkerStatus,
)

CLIENT, WEB, DB = 1, 10, 11
WEB_1, WEB_2 = (stable_id("workload", uid) for uid in ("web-1", "web-2"))
BOUNDS_US = (100, 1000, 10000)


def party(pod: str, enrolled: bool = True) -> Party:
    workload = pod.rsplit("-", 1)[0]
    return Party(
        namespace="shop",
        workload=workload,
        pod=pod,
        app=workload,
        version="v1",
        enrolled=enrolled,
        principal=f"spiffe://cluster.local/ns/shop/sa/{workload}",
    )


def names() -> Names:
    ends = tuple(Endpoint(address=f"10.0.0.{n}", port=80, workload_uid=f"web-{n}") for n in (1, 2))
    return Names(
        parties={CLIENT: party("client-0"), WEB_1: party("web-1"), WEB_2: party("web-2", enrolled=False)},
        services={
            WEB: Called(namespace="shop", name="web", ports=(ServicePort(port=80, endpoints=ends),)),
            DB: Called(namespace="shop", name="db"),
        },
    )


def series(**changed: Any) -> Series:
    """Ten good requests of the client to web-1, 5 in each of the two fastest buckets."""
    ten = Series(
        source=CLIENT,
        service=WEB,
        endpoint=WEB_1,
        direction=Direction.OUTBOUND,
        protocol="http1",
        code=200,
        flag="-",
        count=10,
        opened=0,
        closed=0,
        request_bytes=100,
        response_bytes=2000,
        duration_us_sum=5000,
        histogram=(5, 5, 0, 0),
    )
    return msgspec.structs.replace(ten, **changed)


def opaque(**changed: Any) -> Series:
    """Three connections of the client to the database, two of them ended."""
    values = {"service": DB, "endpoint": 0, "protocol": "tcp", "code": 0, "count": 2, "opened": 3, "closed": 2}
    return series(**(values | changed))


def document(**changed: Any) -> StatusDocument:
    given = StatusDocument(
        node="n1",
        version="0.1.0",
        kernel="6.18.0",
        pid=77,
        taken_at=1000.0,
        uptime_seconds=120.0,
        pods=(
            PodStatus(namespace="shop", name="client-0", state=PodState.CAPTURED, captured=12, kernel={"captured": 12}),
            PodStatus(
                namespace="shop",
                name="web-1",
                state=PodState.BYPASSING,
                fail_mode=FailMode.CLOSED,
                bypassing=3,
                stock={"ipv4": 64},
                mtls=Mtls.STRICT,
                identity="spiffe://cluster.local/ns/shop/sa/web",
            ),
        ),
        workers=(
            WorkerStatus(worker=0, pid=78, up=True, heartbeat_age_seconds=0.1, counters={"accepted": 9}),
            WorkerStatus(worker=1, restarts=2, gauges={"connections": 4}),
        ),
        source=SourceStatus(kind="directory", age_seconds=0.2),
        cni=CniStatus(path="/etc/cni/net.d/10-x.conflist", counts={"enrolled": 3}),
        trust_domain="cluster.local",
        latency_bounds_us=BOUNDS_US,
    )
    return msgspec.structs.replace(given, **changed)


def service(**changed: Any) -> ServiceStatus:
    given = ServiceStatus(namespace="shop", name="web", requests=10, failures=1, histogram=(5, 5, 0, 0))
    return msgspec.structs.replace(given, **changed)


WEB_ID, MAIL_ID = "spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/mail"


def identity(**changed: Any) -> IdentityStatus:
    """At the document's time, 1000: one certificate of 100 s in its first quarter, another that is missing."""
    given = IdentityStatus(
        authority="directory /var/lib/seine/identity",
        answered_at=990.0,
        skew_seconds=-1.5,
        certificates=(
            CertificateStatus(name=MAIL_ID, problem="connection refused"),
            CertificateStatus(name=WEB_ID, serial="4b1f", issued_at=980.0, not_after=1080.0, root="aa00"),
        ),
        roots=(RootStatus(id="aa00", state="issuing", not_after=1e9),),
        denied=(DenialStatus(what="beef", until=2000.0, reason="stolen [laptop]"),),
        events={"issued": 3, "renewed": 2},
        failures={"unreachable": 7},
        signer=SignerStatus(pid=9, up=True, restarts=1, keys=2, signatures=12, refused={"content": 1}),
    )
    return msgspec.structs.replace(given, **changed)
