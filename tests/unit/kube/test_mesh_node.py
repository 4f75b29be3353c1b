"""The MeshNode object: what is read, what is refused at which field, and that it is read as it was written."""

from typing import Any

import pytest

from mesh.kube.mesh_node import MeshNodeFacts, mesh_node
from mesh.kube.parse import decode, parse
from mesh.kube.settings import BadField
from mesh.model import MeshNode, Transport, Workload

ENTRY = {"uid": "7-8", "namespace": "shop", "name": "web-1", "addresses": ["10.1.0.1"], "serviceAccount": "web"}


def read(*workloads: dict[str, Any], name: str = "n1", **spec: Any) -> MeshNode:
    found = parse(decode({"metadata": {"name": name}, "spec": {"workloads": list(workloads), **spec}}, "MeshNode"))
    assert isinstance(found, MeshNodeFacts)
    return found.node


def test_what_a_node_lists_is_who_is_there_and_as_whom():
    found = read(ENTRY | {"addresses": ["10.1.0.1", "FD00:0::1"]}, zone="b", transport="quic")
    (only,) = found.workloads
    assert (found.name, found.transport, only.node, only.zone) == ("n1", Transport.QUIC, "n1", "b")
    assert (only.uid, only.addresses) == ("7-8", ("10.1.0.1", "fd00::1"))
    assert only.identity("cluster.local") == "spiffe://cluster.local/ns/shop/sa/web"
    assert (only.owner, only.app, only.version) == ("web-1", "web-1", "latest")


def test_a_node_may_list_nobody_and_is_reached_by_hbone_if_it_does_not_say():
    assert read() == MeshNode(name="n1", transport=Transport.HBONE)
    assert parse(decode({"metadata": {"name": "n1"}}, "MeshNode")) == MeshNodeFacts(node=MeshNode(name="n1"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uid": ""}, "spec.workloads[0].uid: a pod's uid has 1 to 512 characters"),
        ({"uid": "x" * 513}, "spec.workloads[0].uid"),
        ({"namespace": "Shop"}, "spec.workloads[0].namespace: 'Shop' is no name"),
        ({"name": ""}, "spec.workloads[0].name: '' is no name"),
        ({"serviceAccount": ""}, "spec.workloads[0].serviceAccount: '' is no name"),
        ({"serviceAccount": "a/../b"}, "spec.workloads[0].serviceAccount"),
        ({"addresses": []}, "spec.workloads[0].addresses: nobody is reached without an address"),
        ({"addresses": ["10.1.0.1", "web"]}, "spec.workloads[0].addresses[1]: 'web' is not an IP address"),
        ({"addresses": ["127.0.0.1"]}, "127.0.0.1 cannot be the address of a pod"),
        ({"addresses": ["240.0.0.1"]}, "240.0.0.1 is kept for the mesh's own probe"),
        ({"addresses": "10.1.0.1"}, "spec.workloads[0].addresses: expected"),
    ],
)
def test_an_entry_that_cannot_be_right_is_refused_with_the_whole_object(changes, words):
    with pytest.raises(BadField) as caught:
        read(ENTRY | changes)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (ENTRY | {"addresses": ["10.1.0.2"]}, "spec.workloads[1]: '7-8' is that of workloads[0] already"),
        (ENTRY | {"uid": "9"}, "spec.workloads[1]: '10.1.0.1' is that of workloads[0] already"),
    ],
)
def test_two_entries_of_one_node_never_share_a_uid_or_an_address(second, words):
    with pytest.raises(BadField) as caught:
        read(ENTRY, second)
    assert words in str(caught.value)


def test_an_unknown_transport_is_refused():
    with pytest.raises(BadField, match=r"spec\.transport: 'ipsec'; it must be hbone or quic"):
        read(transport="ipsec")


@pytest.mark.parametrize(
    "node",
    [
        MeshNode(name="n1"),
        read(ENTRY, ENTRY | {"uid": "9", "addresses": ["fd00::2"], "owner": "web", "app": "shop"}, zone="z"),
        read(ENTRY | {"version": "v2"}, transport="quic"),
    ],
)
def test_it_is_read_as_it_was_written(node):
    assert parse(decode(mesh_node(node), "MeshNode")) == MeshNodeFacts(node=node)


def test_what_is_written_says_no_more_than_needed():
    workload = Workload(uid="7", namespace="shop", name="web-1", addresses=("10.1.0.1",), service_account="web")
    assert mesh_node(MeshNode(name="n1", workloads=(workload,)))["spec"] == {
        "transport": "hbone",
        "workloads": [ENTRY | {"uid": "7"}],
    }
