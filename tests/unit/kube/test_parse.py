"""One object at a time: what an API server would accept is accepted, the rest is refused at the field that is wrong."""

from typing import Any

import pytest

from mesh.kube.objects import Meta, Owner
from mesh.kube.parse import EndpointFacts, PodFacts, ServiceFacts, SliceFacts, decode, owner_name, parse
from mesh.kube.settings import BadField
from mesh.model import Balancer, Protocol


def pod(metadata: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **status: Any) -> Any:
    status = status or {"podIP": "10.0.0.1"}
    return parse(decode({"metadata": {"name": "a", **(metadata or {})}, "spec": spec or {}, "status": status}, "Pod"))


def service(*ports: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> Any:
    body = {"clusterIP": "10.96.0.1", "ports": list(ports), **spec}
    return parse(decode({"metadata": {"name": "web", "annotations": annotations}, "spec": body}, "Service"))


def endpoints(*listed: dict[str, Any], ports: Any = ({"port": 80},), kind: str = "IPv4", **meta: Any) -> Any:
    metadata = {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}, **meta}
    body = {"metadata": metadata, "addressType": kind, "endpoints": list(listed), "ports": list(ports)}
    return parse(decode(body, "EndpointSlice"))


def refusal(make: Any) -> BadField:
    with pytest.raises(BadField) as caught:
        make()
    return caught.value


# --- pods


def test_a_pod_as_kubectl_shows_it():
    found = pod(
        {
            "uid": "77-88",
            "namespace": "shop",
            "labels": {"app": "old", "app.kubernetes.io/name": "web", "version": "v2", "pod-template-hash": "5d4f8c"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c", "controller": True}
            ],
            "annotations": {"seine.dev/netns": "/run/netns/x", "seine.dev/cgroup": "lab/x", "seine.dev/weight": "3"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        {"nodeName": "n1", "serviceAccountName": "robot", "containers": [{"name": "c"}]},
        phase="Running",
        podIP="10.0.0.1",
        podIPs=[{"ip": "10.0.0.1"}, {"ip": "FD00:0::1"}],
    )
    assert isinstance(found, PodFacts)
    assert found.workload.addresses == ("10.0.0.1", "fd00::1")
    assert (found.workload.owner, found.workload.app, found.workload.version) == ("web", "web", "v2")
    assert (found.workload.uid, found.workload.service_account, found.workload.node) == ("77-88", "robot", "n1")
    assert (found.netns, found.cgroup, found.weight) == ("/run/netns/x", "lab/x", 3)


def test_a_bare_pod_is_its_own_owner_and_has_a_uid_of_its_name():
    workload = pod().workload
    assert (workload.uid, workload.namespace, workload.owner) == ("default/a", "default", "a")
    assert (workload.app, workload.version, workload.service_account) == ("a", "latest", "default")


def test_a_finished_pod_is_nobody():
    assert pod(phase="Succeeded", podIP="10.0.0.1") is None
    assert pod(phase="Failed", podIP="10.0.0.1") is None


@pytest.mark.parametrize(
    ("kind", "name", "labels", "expected"),
    [
        ("ReplicaSet", "web-5d4f8c", {"pod-template-hash": "5d4f8c"}, "web"),
        ("ReplicaSet", "web-5d4f8c9b7", {}, "web"),
        ("ReplicaSet", "hand-made", {"pod-template-hash": "5d4f8c"}, "hand-made"),
        ("ReplicaSet", "web", {}, "web"),
        ("StatefulSet", "db", {}, "db"),
        ("DaemonSet", "agent-5d4f8c", {}, "agent-5d4f8c"),
        ("Job", "backup-28912345", {}, "backup"),
        ("Job", "backup-2", {}, "backup-2"),
        ("Rollout", "web", {}, "web"),
    ],
)
def test_the_owner_is_what_people_call_it(kind, name, labels, expected):
    assert owner_name(Meta(labels=labels, owner_references=[Owner(kind=kind, name=name)])) == expected


def test_the_controller_is_the_owner_among_several():
    owners = [Owner(kind="X", name="other"), Owner(kind="StatefulSet", name="db", controller=True)]
    assert owner_name(Meta(owner_references=owners)) == "db"
    assert owner_name(Meta()) == ""


@pytest.mark.parametrize(
    ("status", "path", "words"),
    [
        ({"podIP": "10.0.0.300"}, ("status", "podIP"), "'10.0.0.300' is not an IP address"),
        ({"podIP": "010.0.0.1"}, ("status", "podIP"), "not an IP address"),
        ({"podIP": "10.0.0.1/24"}, ("status", "podIP"), "not an IP address"),
        ({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fe80::1%eth0"}]}, ("status", "podIPs", 1, "ip"), "cannot be"),
        ({"podIP": "::ffff:10.0.0.1"}, ("status", "podIP"), "cannot be"),
        ({"podIP": "127.0.0.1"}, ("status", "podIP"), "cannot be"),
        ({"podIP": "0.0.0.0"}, ("status", "podIP"), "cannot be"),
        ({"podIP": "224.0.0.1"}, ("status", "podIP"), "cannot be"),
        ({"podIP": "169.254.1.1"}, ("status", "podIP"), "cannot be"),
        ({"podIP": "240.0.0.1"}, ("status", "podIP"), "kept for the mesh's own probe"),
        ({"podIP": "100::5e1e"}, ("status", "podIP"), "kept for the mesh's own probe"),
        ({"podIP": 10}, ("status", "podIP"), "status.podIP: expected `str`, got `int`"),
        ({"podIPs": ["10.0.0.1"]}, ("status", "podIPs", 0), "status.podIPs[0]: expected `object`, got `str`"),
    ],
)
def test_a_pods_address_is_an_address_a_pod_can_have(status, path, words):
    fault = refusal(lambda: pod(**status))
    assert words in fault.args[0]
    assert fault.path == path


def test_a_wrong_annotation_is_named_although_the_decoder_does_not():
    fault = refusal(lambda: pod({"annotations": {"a": "b", "seine.dev/weight": 5}}))
    assert fault.path == ("metadata", "annotations", "seine.dev/weight")
    assert "expected `str`, got `int`" in fault.args[0]


@pytest.mark.parametrize("name", ["", "Web", "-a", "a-", "a/b", "a b", "a\n", "x" * 254, "ä"])
def test_a_name_is_a_name(name):
    assert refusal(lambda: pod({"name": name})).path == ("metadata", "name")
    if name:
        assert refusal(lambda: pod({"namespace": name})).path == ("metadata", "namespace")


# --- services


def test_a_service_with_every_kind_of_port():
    found = service(
        {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080},
        {"name": "grpc", "port": 81, "appProtocol": "kubernetes.io/h2c"},
        {"name": "mail", "port": 25},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53},
        type="NodePort",
        annotations={"config.seine.dev/opaque-ports": "25", "seine.dev/balancer": "round_robin"},
    )
    assert isinstance(found, ServiceFacts)
    assert found.service.balancer is Balancer.ROUND_ROBIN
    assert [(each.port, each.name, each.app_protocol, each.protocol) for each in found.service.ports] == [
        (80, "http", "", Protocol.DETECT),
        (81, "grpc", "kubernetes.io/h2c", Protocol.DETECT),
        (25, "mail", "", Protocol.OPAQUE),
        (53, "dns-tcp", "", Protocol.DETECT),
    ]


def test_vips_headless_and_external_names():
    both = service({"port": 80}, clusterIPs=["10.96.0.1", "fd00::1"])
    assert both.service.vips == ("10.96.0.1", "fd00::1")
    assert service({"port": 80}).service.vips == ("10.96.0.1",)
    assert service({"port": 80}, clusterIP="None").service.vips == ()
    assert service({"port": 80}, clusterIP="None", clusterIPs=["None"]).service.vips == ()
    assert service(type="ExternalName", clusterIP="", externalName="example.com") is None


@pytest.mark.parametrize(
    ("make", "path", "words"),
    [
        (lambda: service({"port": 0}), ("spec", "ports", 0, "port"), "port 0 is out of range"),
        (lambda: service({"port": 65536}), ("spec", "ports", 0, "port"), "port 65536 is out of range"),
        (lambda: service({"port": "80"}), ("spec", "ports", 0, "port"), "expected `int`, got `str`"),
        (lambda: service({}), ("spec", "ports", 0), "missing required field `port`"),
        (lambda: service({"port": 80, "protocol": "tcp"}), ("spec", "ports", 0, "protocol"), "TCP, UDP or SCTP"),
        (lambda: service({"port": 80}, {"port": 81}), ("spec", "ports", 1), "need names of their own"),
        (lambda: service({"port": 80, "name": "a"}, {"port": 80}), ("spec", "ports", 1), "port 80/TCP is here twice"),
        (lambda: service(clusterIP=""), ("spec",), "no clusterIP"),
        (lambda: service(clusterIP="10.0.0.999"), ("spec", "clusterIP"), "not an IP address"),
        (lambda: service(clusterIPs=["10.96.0.1", "x"]), ("spec", "clusterIPs", 1), "not an IP address"),
        (lambda: service(clusterIPs=["10.96.0.2"]), ("spec", "clusterIP"), "but clusterIPs[0] is '10.96.0.2'"),
        (lambda: service(annotations={"seine.dev/balancer": "rr"}), ("metadata", "annotations", "seine.dev/balancer"),
         "must be ewma or round_robin"),
    ],
)  # fmt: skip
def test_a_service_is_refused_at_the_field_that_is_wrong(make, path, words):
    fault = refusal(make)
    assert words in fault.args[0]
    assert fault.path == path


# --- endpoint slices


def test_conditions_absent_are_read_as_kubernetes_says():
    def of(**conditions: bool | None) -> tuple[bool, bool]:
        (found,) = endpoints({"addresses": ["10.0.0.1"], "conditions": conditions}).endpoints
        return found.ready, found.last_resort

    assert of() == (True, False)
    assert of(ready=None, serving=None) == (True, False)
    assert of(ready=False) == (False, False)
    assert of(ready=False, serving=True, terminating=True) == (False, True)
    assert of(ready=False, terminating=True) == (False, True)
    assert of(ready=False, serving=False, terminating=True) == (False, False)


def test_a_slice_says_who_its_endpoints_are():
    target = {"kind": "Pod", "name": "a", "namespace": "shop", "uid": "7"}
    found = endpoints(
        {"addresses": ["10.0.0.1", "10.0.0.2"], "targetRef": target, "zone": "z1", "nodeName": "n"},
        {"addresses": ["10.0.0.3"], "targetRef": {"kind": "Pod", "name": "b"}},
        {"addresses": ["10.0.0.4"], "targetRef": {"kind": "Node", "name": "n", "uid": "9"}},
        ports=[{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "any"}],
    )
    assert isinstance(found, SliceFacts)
    assert found.ports == (("http", 8080),)
    common = {"ready": True, "last_resort": False}
    assert found.endpoints == (
        EndpointFacts(address="10.0.0.1", pod=None, uid="7", zone="z1", **common),
        EndpointFacts(address="10.0.0.3", pod=("shop", "b"), uid="", zone="", **common),
        EndpointFacts(address="10.0.0.4", pod=None, uid="", zone="", **common),
    )


def test_null_lists_of_a_slice_are_empty_and_fqdn_is_not_ours():
    empty = {"metadata": {"name": "x"}, "addressType": "IPv4", "endpoints": None, "ports": None}
    found = parse(decode(empty, "EndpointSlice"))
    assert isinstance(found, SliceFacts)
    assert (found.endpoints, found.ports) == ((), ())
    assert endpoints({"addresses": ["example.com"]}, kind="FQDN") is None


@pytest.mark.parametrize(
    ("make", "path", "words"),
    [
        (lambda: endpoints(kind=""), ("addressType",), "must be IPv4, IPv6 or FQDN"),
        (lambda: endpoints({"addresses": []}), ("endpoints", 0, "addresses"), "needs an address"),
        (lambda: endpoints({}), ("endpoints", 0), "missing required field `addresses`"),
        (lambda: endpoints({"addresses": ["fd00::1"]}), ("endpoints", 0, "addresses", 0), "not of the addressType"),
        (lambda: endpoints({"addresses": ["x"]}), ("endpoints", 0, "addresses", 0), "not an IP address"),
        (lambda: endpoints(ports=[{"port": 70000}]), ("ports", 0, "port"), "out of range"),
        (lambda: endpoints(ports=[{"port": 1, "protocol": "ICMP"}]), ("ports", 0, "protocol"), "TCP, UDP or SCTP"),
        (lambda: endpoints({"addresses": ["10.0.0.1"], "conditions": {"ready": "yes"}}),
         ("endpoints", 0, "conditions", "ready"), "expected `bool | null`, got `str`"),
    ],
)  # fmt: skip
def test_a_slice_is_refused_at_the_field_that_is_wrong(make, path, words):
    fault = refusal(make)
    assert words in fault.args[0]
    assert fault.path == path
