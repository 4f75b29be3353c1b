"""Many objects together: who belongs to whom, and who comes too late."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.control import conflicts
from mesh.kube.assemble import Placed, admit, assemble
from mesh.kube.objects import KINDS
from mesh.kube.parse import Facts, decode, parse
from mesh.model import Endpoint, FailMode, Mtls, Snapshot


def facts(kind: str, name: str, metadata: dict[str, Any] | None = None, **body: Any) -> Facts:
    found = parse(decode({"metadata": {"name": name, **(metadata or {})}, **body}, kind))
    assert found is not None
    return found


def namespace(name: str = "default", mesh: str = "enabled", **annotations: str) -> Facts:
    meta = {"labels": {"seine.dev/mesh": mesh}, "annotations": {f"seine.dev/{k}": v for k, v in annotations.items()}}
    return facts("Namespace", name, meta)


def pod(name: str, ip: str = "", netns: str | None = None, host: bool = False, node: str = "", **meta: Any) -> Facts:
    notes = {"seine.dev/netns": f"/run/netns/{name}" if netns is None else netns}
    notes = {key: text for key, text in {**notes, **meta.pop("annotations", {})}.items() if text}
    spec = {"hostNetwork": host, "nodeName": node}
    return facts("Pod", name, {"annotations": notes, **meta}, spec=spec, status={"podIP": ip})


def service(name: str = "web", vip: str = "10.96.0.1", *ports: str, **meta: Any) -> Facts:
    listed = [{"name": port, "port": 80 + index} for index, port in enumerate(ports or ("http",))]
    return facts("Service", name, meta, spec={"clusterIP": vip, "ports": listed})


def piece(
    name: str, *addresses: str, of: str = "web", ports: Any = (("http", 8080),), ends: Any = None, **meta: Any
) -> Facts:
    meta = {"labels": {"kubernetes.io/service-name": of} if of else {}, **meta}
    listed = ends or [{"addresses": [address]} for address in addresses]
    shown = [{"name": port, "port": number} for port, number in ports]
    return facts("EndpointSlice", name, meta, addressType="IPv4", endpoints=listed, ports=shown)


def listing(node: str, **workloads: str) -> Facts:
    """A MeshNode that lists pods of these names at these addresses."""
    entries = [
        {"uid": f"uid-{name}", "namespace": "default", "name": name, "addresses": [ip], "serviceAccount": "default"}
        for name, ip in workloads.items()
    ]
    return facts("MeshNode", node, spec={"workloads": entries})


def placed(*several: Facts, file: str = "a.yaml") -> list[Placed]:
    return [Placed(file=file, line=10 * index, facts=each) for index, each in enumerate(several, 1)]


def snapshot(*several: Facts, node: str = "") -> Snapshot:
    return assemble(placed(*several), node)[0]


def ends(found: Snapshot, port: int = 0) -> tuple[Endpoint, ...]:
    return found.services[0].ports[port].endpoints


# --- which pods are in


def test_the_namespaces_label_enrols_and_the_pods_wins():
    off: dict[str, Any] = {"labels": {"seine.dev/mesh": "disabled"}}
    on: dict[str, Any] = {"labels": {"seine.dev/mesh": "enabled"}}
    found = snapshot(namespace(), pod("a", "10.0.0.1"), pod("b", "10.0.0.2", **off))
    assert [(each.workload.name, each.enrolled) for each in found.pods] == [("a", True), ("b", False)]
    found = snapshot(pod("a", "10.0.0.1"), pod("b", "10.0.0.2", **on))
    assert [(each.workload.name, each.enrolled) for each in found.pods] == [("a", False), ("b", True)]


def test_settings_come_from_namespace_and_pod():
    mine: dict[str, Any] = {"annotations": {"config.seine.dev/opaque-ports": "25"}}
    found = snapshot(namespace(fail="closed", shortcut="enabled"), pod("a", "10.0.0.1", **mine))
    assert found.pods[0].fail_mode is FailMode.CLOSED
    assert found.pods[0].shortcut
    assert found.pods[0].opaque_ports == {25}


def test_what_a_pod_accepts_is_its_own_word_or_its_namespaces_or_the_agents():
    several = [
        namespace(mtls="strict"),
        pod("a", "10.0.0.1"),
        pod("b", "10.0.0.2", annotations={"seine.dev/mtls": "disabled"}),
        pod("c", "10.0.0.3", namespace="other"),
    ]
    for default in Mtls:
        found, _ = assemble(placed(*several), mtls=default)
        assert [each.mtls for each in found.pods] == [Mtls.STRICT, Mtls.DISABLED, default]


@pytest.mark.parametrize(
    ("candidate", "words"),
    [
        (pod("a", "10.0.0.1", host=True), "hostNetwork"),
        (pod("a", "10.0.0.1", host=True, netns=""), "hostNetwork"),
        (pod("a", "10.0.0.1", netns=""), "neither seine.dev/netns nor spec.nodeName"),
        (pod("a", ""), "no address"),
    ],
)
def test_a_pod_that_cannot_be_enrolled_says_why(candidate, words):
    (found,) = snapshot(namespace(), candidate).pods
    assert words in found.refused
    assert not found.enrolled


def test_a_pod_that_does_not_ask_is_not_refused():
    assert snapshot(pod("a", "10.0.0.1", host=True, netns="")).pods == ()
    (found,) = snapshot(pod("a", "10.0.0.1", host=True)).pods
    assert (found.refused, found.enrolled) == ("", False)


def test_pods_of_other_nodes_are_workloads_and_not_ours():
    several = (pod("a", "10.0.0.1", node="n1"), pod("b", "10.0.0.2", node="n2"), pod("c", "10.0.0.3"))
    assert [each.workload.name for each in snapshot(*several, node="n1").pods] == ["a", "c"]
    assert len(snapshot(*several, node="n1").workloads) == 3
    assert [each.workload.name for each in snapshot(*several).pods] == ["a", "b", "c"]
    remote = pod("d", "10.0.0.4", netns="", node="n9")
    assert snapshot(namespace(), remote).pods == ()


def test_a_pod_of_this_node_that_says_no_namespace_is_ours_once_it_was_started():
    ours: dict[str, Any] = {"node": "n1", "netns": ""}
    started, starting = pod("a", "10.0.0.1", **ours), pod("b", **ours)
    silent = pod("c", "10.0.0.3", labels={"seine.dev/mesh": "disabled"}, **ours)
    found = snapshot(namespace(), started, starting, silent, node="n1")
    assert [(each.workload.name, each.enrolled, each.netns, each.refused) for each in found.pods] == [
        ("a", True, "", "")
    ]
    assert snapshot(namespace(), started, node="n2").pods == ()


def test_a_pod_has_its_nodes_zone_where_it_says_none():
    there = facts("Node", "n1", {"labels": {"topology.kubernetes.io/zone": "west"}})
    own = pod("b", "10.0.0.2", node="n1", labels={"topology.kubernetes.io/zone": "east"})
    found = snapshot(there, pod("a", "10.0.0.1", node="n1"), own, pod("c", "10.0.0.3", node="n2"))
    assert [each.zone for each in found.workloads] == ["west", "east", ""]


def test_host_network_pods_share_their_address_and_namespace():
    both = [pod(name, "192.168.0.1", netns="/proc/1/ns/net", host=True) for name in "ab"]
    found = snapshot(*both, pod("c", "10.0.0.1"))
    assert found.errors == ()
    assert len(found.workloads) == 3


# --- endpoints


def test_an_endpoint_is_its_pod_by_uid_or_name_or_address():
    several = (pod("a", "10.0.0.1", uid="7"), pod("b", "10.0.0.2"), pod("c", "10.0.0.3"))
    listed = [
        {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "a", "uid": "7"}},
        {"addresses": ["10.0.0.2"], "targetRef": {"kind": "Pod", "name": "b"}},
        {"addresses": ["10.0.0.3"]},
        {"addresses": ["10.0.0.4"]},
    ]
    found = snapshot(*several, service(), piece("web-1", ends=listed))
    assert [each.workload_uid for each in ends(found)] == ["7", "default/b", "default/c", ""]


def test_a_uid_that_is_not_known_is_never_another_pods():
    """Its address may have been given to somebody else within seconds."""
    target = {"kind": "Pod", "name": "a", "uid": "old"}
    listed = [{"addresses": ["10.0.0.1"], "targetRef": target}]
    found = snapshot(pod("a", "10.0.0.1", uid="new"), service(), piece("web-1", ends=listed))
    assert ends(found)[0].workload_uid == "old"


def test_slices_add_up_sorted_and_each_endpoint_counts_once():
    late = [{"addresses": ["10.0.0.2"], "conditions": {"ready": False}}, {"addresses": ["10.0.0.1"]}]
    found = snapshot(service(), piece("web-1", ends=late), piece("web-2", "10.0.0.2", "10.0.0.3"))
    assert [(each.address, each.ready) for each in ends(found)] == [
        ("10.0.0.1", True),
        ("10.0.0.2", True),
        ("10.0.0.3", True),
    ]


def test_ports_meet_by_name():
    found = snapshot(
        service("web", "10.96.0.1", "http", "admin"),
        piece("web-1", "10.0.0.1", ports=[("http", 8080), ("admin", 9090)]),
        piece("web-2", "10.0.0.2", ports=[("http", 8888)]),
    )
    assert [(each.address, each.port) for each in ends(found, 0)] == [("10.0.0.1", 8080), ("10.0.0.2", 8888)]
    assert [(each.address, each.port) for each in ends(found, 1)] == [("10.0.0.1", 9090)]


def test_a_slice_that_reaches_nobody_by_a_slip_is_told():
    found = snapshot(service(), piece("web-1", "10.0.0.1", ports=[("htpp", 8080)]), piece("lost", "10.0.0.2", of=""))
    assert ends(found) == ()
    assert found.errors == (), "both are taken"
    assert found.warnings == (
        "a.yaml:20: EndpointSlice default/web-1 has port 8080 named 'htpp', "
        "a name that Service default/web does not have",
        "a.yaml:30: EndpointSlice default/lost has no label kubernetes.io/service-name, so no Service uses it",
    )


def test_weights_of_pod_before_slice():
    weighed: dict[str, Any] = {"annotations": {"seine.dev/weight": "5"}}
    found = snapshot(pod("a", "10.0.0.1", **weighed), service(), piece("web-1", "10.0.0.1", "10.0.0.2"))
    assert [each.weight for each in ends(found)] == [5, 1]
    heavy = piece("web-1", "10.0.0.1", "10.0.0.2", annotations={"seine.dev/weight": "7"})
    found = snapshot(pod("a", "10.0.0.1", **weighed), service(), heavy)
    assert [each.weight for each in ends(found)] == [5, 7]


# --- other nodes


def test_a_mesh_node_lists_who_is_in_the_mesh_elsewhere_and_our_own_is_not_read():
    found = snapshot(listing("n1", a="10.1.0.1"), listing("n2", b="10.2.0.1"), node="n2")
    assert [(node.name, [each.name for each in node.workloads]) for node in found.nodes] == [("n1", ["a"])]
    assert found.errors == ()


def test_an_endpoint_without_a_uid_is_whom_a_node_lists_by_that_name_or_address():
    listed = [
        {"addresses": ["10.1.0.1"], "targetRef": {"kind": "Pod", "name": "a"}},
        {"addresses": ["10.1.0.2"]},
        {"addresses": ["10.1.0.2"], "targetRef": {"kind": "Pod", "name": "b", "uid": "older"}},
    ]
    node = listing("n1", a="10.1.0.1", b="10.1.0.2")
    for ends_, expected in ((listed[:2], ["uid-a", "uid-b"]), (listed[2:], ["older"])):
        found = snapshot(node, service(), piece("web-1", ends=ends_))
        assert [each.workload_uid for each in ends(found)] == expected


def test_contradictions_of_nodes_are_told_with_their_places_and_the_older_stays():
    found, seats = assemble(placed(listing("n2", a="10.1.0.1"), file="z.yaml"), "n9")
    both = [*placed(listing("n1", a="10.1.0.9")), *placed(listing("n2", a="10.1.0.1"), file="z.yaml")]
    found, again = assemble(both, "n9", seats)
    assert {node.name: [each.uid for each in node.workloads] for node in found.nodes} == {"n1": [], "n2": ["uid-a"]}
    assert found.errors == (
        "a.yaml:10: MeshNode n1 lists Pod default/a, which MeshNode n2 listed before it; this is not believed",
    )
    assert seats <= again


# --- claims


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (pod("a", "10.0.0.1"), pod("a", "10.0.0.2"), "Pod default/a is already defined at a.yaml:10"),
        (pod("a", "10.0.0.1"), pod("b", "10.0.0.1"), "has the address 10.0.0.1 of Pod default/a at a.yaml:10"),
        (pod("a", "10.0.0.1", netns="/n"), pod("b", "10.0.0.2", netns="/n"),
         "Pod default/b has the network namespace /n of Pod default/a at a.yaml:10"),
        (pod("a", "10.0.0.1", uid="7"), pod("b", "10.0.0.2", uid="7"), "has the uid 7 of Pod default/a"),
        (service("a"), service("b"), "Service default/b has the address 10.96.0.1 of Service default/a at a.yaml:10"),
        (service("a", "10.0.0.1"), pod("b", "10.0.0.1"), "has the address 10.0.0.1 of Service default/a"),
        (namespace(), namespace(mesh="disabled"), "Namespace default is already defined at a.yaml:10"),
        (piece("x", "10.0.0.1"), piece("x", "10.0.0.2"), "EndpointSlice default/x is already defined at a.yaml:10"),
        (listing("n1"), listing("n1", a="10.1.0.1"), "MeshNode n1 is already defined at a.yaml:10"),
    ],
)  # fmt: skip
def test_the_later_of_two_is_left_out_and_both_places_are_named(first, second, reason):
    found, seats = assemble([*placed(first), *placed(second, file="b.yaml")])
    (sentence,) = [each for each in found.errors if "left out" in each]
    assert sentence.startswith("b.yaml:10: ")
    assert reason in sentence
    assert seats == {("a.yaml", first.title)}


def test_who_was_there_before_stays_when_an_earlier_file_claims_the_same():
    mine = placed(pod("mine", "10.0.0.1"), file="z.yaml")
    found, seats = assemble(mine)
    assert found.errors == ()
    intruder = placed(pod("other", "10.0.0.1"), file="a.yaml")
    found, again = assemble([*intruder, *mine], before=seats)
    assert [each.name for each in found.workloads] == ["mine"]
    assert found.errors[0].startswith("a.yaml:10: Pod default/other has the address 10.0.0.1 of Pod default/mine")
    assert again == seats
    found, _ = assemble(intruder, before=again)
    assert [each.name for each in found.workloads] == ["other"], "freed, it can be had"


few = st.sampled_from(["a", "b", "c"])
address = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"])
anything = st.one_of(
    st.builds(pod, few, address, netns=st.sampled_from(["/n1", "/n2", ""]), host=st.booleans()),
    st.builds(service, few, st.sampled_from(["10.96.0.1", "10.0.0.1", "None"])),
    st.builds(piece, few, address, of=few),
    st.builds(namespace),
    st.builds(lambda node, name, ip: listing(node, **{name: ip}), few, few, address),
)


@given(st.lists(anything, max_size=8))
def test_every_object_is_admitted_or_in_a_sentence_and_nothing_conflicts(several):
    admitted, errors = admit(placed(*several))
    assert len(admitted) + len(errors) == len(several)
    assert conflicts(assemble(admitted)[0]) == ()


@given(st.lists(anything, max_size=8, unique_by=lambda each: each.title))
def test_the_order_of_files_changes_nothing_once_seats_are_taken(several):
    found, seats = assemble(placed(*several))
    shuffled = list(reversed(placed(*several)))
    again, same = assemble([each for each in shuffled if each.seat in seats], before=seats)
    assert same == seats
    assert (again.services, again.workloads, again.pods, again.nodes) == (
        *(found.services, found.workloads, found.pods),
        found.nodes,
    )


def test_every_kind_we_read_is_assembled():
    assert set(KINDS) == {"Namespace", "Pod", "Node", "Service", "EndpointSlice", "MeshNode", "AuthorizationPolicy"}


# --- nodes


def node(name: str, address: str = "", *cidrs: str) -> Facts:
    listed = [{"type": "InternalIP", "address": address}] if address else []
    return facts("Node", name, spec={"podCIDRs": list(cidrs)}, status={"addresses": listed})


def test_nodes_are_sorted_and_the_own_one_is_among_them():
    found = snapshot(node("n2", "192.0.2.2", "10.0.2.0/24"), node("n1", "192.0.2.1", "10.0.1.0/24"), node="n1")
    assert [(host.name, host.addresses, host.pod_cidrs) for host in found.hosts] == [
        ("n1", ("192.0.2.1",), ("10.0.1.0/24",)),
        ("n2", ("192.0.2.2",), ("10.0.2.0/24",)),
    ]


def test_a_network_of_pods_belongs_to_one_node():
    found = snapshot(node("n1", "192.0.2.1", "10.0.1.0/24"), node("n2", "192.0.2.2", "10.0.1.0/24"))
    assert [host.name for host in found.hosts] == ["n1"]
    assert "Node n2 has the podCIDR 10.0.1.0/24 of Node n1 at a.yaml:10; this one is left out" in found.errors[0]


def test_an_address_belongs_to_one_node_but_pods_of_the_hosts_network_share_it():
    found = snapshot(node("n1", "192.0.2.1"), node("n2", "192.0.2.1"), pod("p", "192.0.2.1", host=True))
    assert [host.name for host in found.hosts] == ["n1"]
    assert len(found.errors) == 1
    assert "p" in [workload.name for workload in found.workloads]
