"""After any history the index says what `assemble` says of the outcome, and only what changed is a new value."""

from __future__ import annotations

import itertools
import random
from typing import Any

import msgspec
import pytest

from mesh.kube.assemble import Placed, assemble
from mesh.kube.index import Index, Seat
from mesh.kube.parse import Facts, decode, parse
from mesh.model import Mtls, Snapshot

NODE = "n1"


def facts(kind: str, name: str, namespace: str = "shop", labels: dict[str, str] | None = None, **rest: Any) -> Facts:
    meta = {"name": name, "namespace": namespace, "labels": labels or {}, "uid": f"uid-{name}"}
    found = parse(decode({"metadata": meta, **rest}, kind))
    assert found is not None
    return found


def service(number: int, port: int = 80) -> Facts:
    ports = [{"name": "http", "port": port}]
    return facts("Service", f"web-{number}", spec={"clusterIP": f"10.96.0.{number + 1}", "ports": ports})


def piece(number: int, part: str, *addresses: str, known: bool = True) -> Facts:
    def endpoint(address: str) -> dict[str, Any]:
        target = {"kind": "Pod", "name": f"pod-{address}", "uid": f"uid-pod-{address}"}
        return {"addresses": [address]} | ({"targetRef": target} if known else {})

    return facts(
        "EndpointSlice",
        f"web-{number}-{part}",
        labels={"kubernetes.io/service-name": f"web-{number}"},
        addressType="IPv4",
        ports=[{"name": "http", "port": 8080}],
        endpoints=[endpoint(each) for each in addresses],
    )


def pod(address: str, weight: int = 1) -> Facts:
    meta = {
        "name": f"pod-{address}",
        "namespace": "shop",
        "uid": f"uid-pod-{address}",
        "labels": {"seine.dev/mesh": "enabled"},
        "annotations": {"seine.dev/weight": str(weight)},
    }
    found = parse(decode({"metadata": meta, "spec": {"nodeName": NODE}, "status": {"podIP": address}}, "Pod"))
    assert found is not None
    return found


def other_node(*addresses: str) -> Facts:
    listed = [
        {
            "uid": f"uid-pod-{each}",
            "namespace": "shop",
            "name": f"pod-{each}",
            "addresses": [each],
            "serviceAccount": "d",
        }
        for each in addresses
    ]
    return facts("MeshNode", "n2", "", spec={"workloads": listed})


def seat(found: Facts) -> Seat:
    kind, _, name = found.title.partition(" ")
    return (kind, *name.rpartition("/")[::2])


def whole(known: dict[Seat, Facts]) -> Snapshot:
    return assemble([Placed(file="API server", line=0, facts=each) for each in known.values()], NODE)[0]


def plain(snapshot: Snapshot) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(snapshot, warnings=tuple(sorted(snapshot.warnings))))


ADDRESSES = [f"10.0.0.{number}" for number in range(1, 9)]


def one_of_many(chance: random.Random) -> Facts:
    some = chance.sample(ADDRESSES, chance.randrange(4))
    match chance.randrange(5):
        case 0:
            return service(chance.randrange(4), chance.choice([80, 81]))
        case 1:
            return pod(chance.choice(ADDRESSES), chance.randrange(1, 4))
        case 2:
            return other_node(*some)
        case _:
            return piece(chance.randrange(5), chance.choice("ab"), *some, known=chance.random() < 0.5)


@pytest.mark.parametrize("seed", range(30))
def test_any_history_leads_to_what_assembling_the_outcome_gives(seed):
    chance = random.Random(seed)
    index, known = Index(NODE, Mtls.PERMISSIVE), dict[Seat, Facts]()
    for step in range(60):
        found = one_of_many(chance)
        if chance.random() < 0.3 and known:
            gone = chance.choice(sorted(known))
            del known[gone]
            index.remove(gone)
        else:
            known[seat(found)] = found
            index.put(seat(found), found)
        if step % chance.choice([1, 2, 5]) == 0:
            assert plain(index.snapshot()) == plain(whole(known))


def test_a_changed_slice_makes_one_service_anew_and_leaves_all_others_the_same_objects():
    index = Index(NODE, Mtls.PERMISSIVE)
    for number in range(5):
        for each in (service(number), piece(number, "a", f"10.0.1.{number + 1}")):
            index.put(seat(each), each)
    before = index.snapshot()
    changed = piece(3, "a", "10.0.2.1")
    index.put(seat(changed), changed)
    assert index.changed
    after = index.snapshot()
    assert [a is b for a, b in zip(before.services, after.services, strict=True)] == [True, True, True, False, True]
    assert after.services[3].ports[0].endpoints[0].address == "10.0.2.1"
    assert not index.changed


def test_the_heartbeat_of_a_node_changes_nothing():
    index = Index(NODE, Mtls.PERMISSIVE)
    node = facts("Node", "n2", "", status={"addresses": [{"type": "InternalIP", "address": "10.9.0.2"}]})
    index.put(seat(node), node)
    index.snapshot()
    for _ in range(3):
        index.put(
            seat(node), facts("Node", "n2", "", status={"addresses": [{"type": "InternalIP", "address": "10.9.0.2"}]})
        )
    assert not index.changed


def test_of_two_that_claim_an_address_the_first_keeps_it_until_it_goes():
    index = Index(NODE, Mtls.PERMISSIVE)
    first, second = service(1), facts("Service", "late", spec={"clusterIP": "10.96.0.2", "ports": [{"port": 80}]})
    for each in (first, second):
        index.put(seat(each), each)
    assert [each.name for each in index.snapshot().services] == ["web-1"]
    assert "has the address 10.96.0.2" in index.snapshot().errors[0]
    index.remove(seat(first))
    assert [each.name for each in index.snapshot().services] == ["late"]


def test_seats_are_those_of_one_kind():
    index = Index(NODE, Mtls.PERMISSIVE)
    for each in (service(1), piece(1, "a"), pod("10.0.0.1")):
        index.put(seat(each), each)
    for kind, count in itertools.product(["Service", "EndpointSlice", "Pod"], [1]):
        assert len(index.seats(kind)) == count
    assert index.seats("Node") == []
