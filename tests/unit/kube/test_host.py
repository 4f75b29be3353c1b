"""Nodes as an API server shows them: what leads to their pods is taken, what cannot be right is refused."""

from typing import Any

import pytest

from mesh.kube.host import HostFacts
from mesh.kube.parse import decode, parse
from mesh.kube.settings import BadField


def node(*cidrs: str, addresses: Any = (), annotations: dict[str, str] | None = None, **spec: Any) -> Any:
    listed = [{"type": kind, "address": text} for kind, text in addresses]
    meta = {"name": "n1", "annotations": annotations}
    body = {"metadata": meta, "spec": {"podCIDRs": list(cidrs), **spec}, "status": {"addresses": listed}}
    return parse(decode(body, "Node"))


def test_a_node_as_kubectl_shows_it():
    found = node(
        "10.244.1.0/24",
        "fd00:10:244:1::/64",
        podCIDR="10.244.1.0/24",
        addresses=[
            ("Hostname", "n1"),
            ("ExternalIP", "203.0.113.7"),
            ("InternalIP", "192.0.2.7"),
            ("InternalIP", "192.0.2.8"),
            ("InternalIP", "2001:DB8::7"),
        ],
        annotations={"seine.dev/mtu": "1400"},
    )
    assert isinstance(found, HostFacts)
    assert found.host.addresses == ("192.0.2.7", "2001:db8::7"), "the first of each family"
    assert found.host.pod_cidrs == ("10.244.1.0/24", "fd00:10:244:1::/64")
    assert (found.host.name, found.host.mtu) == ("n1", 1400)


def test_a_node_whose_network_is_somebody_elses_care_has_none():
    assert node().host.pod_cidrs == ()
    assert node(podCIDR="10.0.0.0/24").host.pod_cidrs == ("10.0.0.0/24",)


@pytest.mark.parametrize(
    ("make", "where", "why"),
    [
        (lambda: node("10.0.0.1/24"), "spec.podCIDRs[0]", "host bits set"),
        (lambda: node("0.0.0.0/0"), "spec.podCIDRs[0]", "cannot be the network of a node's pods"),
        (lambda: node("fd00::/64", "::/0"), "spec.podCIDRs[1]", "cannot be the network of a node's pods"),
        (lambda: node("127.0.0.0/8"), "spec.podCIDRs[0]", "cannot be the network of a node's pods"),
        (lambda: node("10.0.0.0/24", "10.0.1.0/24"), "spec.podCIDRs[1]", "10.0.0.0/24 is it"),
        (lambda: node("10.0.0.0/24", podCIDR="10.0.1.0/24"), "spec.podCIDR", "podCIDRs[0] is '10.0.0.0/24'"),
        (lambda: node(podCIDR="x"), "spec.podCIDR", "is no network"),
        (lambda: node(addresses=[("InternalIP", "n1")]), "status.addresses[0].address", "not an IP address"),
        (lambda: node(annotations={"seine.dev/mtu": "576"}), "seine.dev/mtu", "a whole number from 1280 to 65535"),
        (lambda: node(annotations={"seine.dev/mtu": "1e3"}), "seine.dev/mtu", "a whole number from 1280 to 65535"),
    ],
)
def test_a_node_is_refused_where_it_is_wrong(make, where, why):
    with pytest.raises(BadField) as caught:
        make()
    sentence = str(caught.value)
    assert where in sentence
    assert why in sentence
