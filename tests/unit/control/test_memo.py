"""A memory changes how long something takes, never what comes out."""

from __future__ import annotations

import random

import pytest
from msgspec import structs

from mesh.control import DestinationCompiler, PlanCompiler, compile_destinations, compile_peers, compile_plans
from mesh.control.memo import Memo, PerService, patched
from mesh.model import Service, Snapshot
from tests.kit.builders import endpoint, mesh_node, pod, service, snapshot, workload

DOMAIN = "cluster.local"


def shop(number: int, *addresses: str) -> Service:
    return service(f"s{number}", 80, *(endpoint(each) for each in addresses), vip=f"10.96.0.{number + 1}")


def put(services: list[Service], made: Service) -> list[Service]:
    """In its former place, or as the last."""
    names = [each.name for each in services]
    if made.name not in names:
        return [*services, made]
    return [made if each.name == made.name else each for each in services]


def changed(before: Snapshot, chance: random.Random) -> Snapshot:
    """Another snapshot; what did not change stays the same object, as with a source."""
    services = list(before.services)
    pods, nodes = before.pods, before.nodes
    some = [f"10.0.0.{number}" for number in chance.sample(range(1, 9), 3)]
    match chance.randrange(6):
        case 0:
            opaque = frozenset({8080} if chance.random() < 0.5 else ())
            pods = tuple(pod(f"p{each}", each, opaque_ports=opaque) for each in some[:2])
        case 1:
            nodes = (mesh_node("n2", *(workload(f"w{each}", each) for each in some[2:])),)
        case 2 if services:
            del services[chance.randrange(len(services))]
        case _:
            made = shop(chance.randrange(5), *some[: chance.randrange(4)])
            if chance.random() < 0.2:  # the VIP of another, or a pod's address
                made = structs.replace(made, vips=(chance.choice(["10.96.0.1", some[0]]),))
            services = put(services, made)
    known = tuple(each.workload for each in pods)
    return structs.replace(before, services=tuple(services), pods=pods, workloads=known, nodes=nodes)


@pytest.mark.parametrize("seed", range(40))
def test_a_compiler_with_a_memory_says_what_one_without_says(seed: int) -> None:
    chance = random.Random(seed)
    plans, destinations, now = PlanCompiler(), DestinationCompiler(), snapshot()
    for _ in range(40):
        now = changed(now, chance)
        slots = {each.workload.uid: slot for slot, each in enumerate(now.pods)}
        peers = compile_peers(now, slots, DOMAIN, local_tunnel=chance.random() < 0.2)
        assert plans.compile(now, slots, peers) == compile_plans(now, slots, peers)
        assert destinations.compile(now, peers) == compile_destinations(now, peers)
        assert plans.compile(now, slots, peers) is plans.compile(now, slots, peers)
        assert destinations.compile(now, peers) is destinations.compile(now, peers)


def test_only_what_is_another_object_is_made_again() -> None:
    made: list[str] = []
    memory: PerService[str] = PerService()

    def make(each: Service) -> str:
        made.append(each.name)
        return each.name

    one, two = shop(1), shop(2)
    assert memory.of([one, two], "here", make) == ["s1", "s2"]
    other = shop(2, "10.0.0.1")
    assert memory.of([other, one], "here", make) == ["s2", "s1"]
    assert made == ["s1", "s2", "s2"]
    memory.of([other, one], "elsewhere", make)
    assert made[3:] == ["s2", "s1"]


def test_what_changed_is_told_where_all_else_stayed_as_it_was() -> None:
    memory: PerService[str] = PerService()
    one, two = shop(1), shop(2)

    def changed(around: str, *services: Service) -> list[tuple[str, str]] | None:
        memory.of(services, around, lambda each: f"{each.name} {len(each.ports[0].endpoints)}")
        return memory.changed

    assert changed("here", one, two) is None
    assert changed("here", one, two) == []
    assert changed("here", one, shop(2, "10.0.0.1", "10.0.0.2")) == [("s2 1", "s2 2")]
    for around, services in (("here", (two, one)), ("here", (two,)), ("there", (two,)), ("here", ()), ("there", ())):
        assert changed(around, *services) is None


def test_a_patch_replaces_what_is_a_service_s_own() -> None:
    a, b = object(), object()
    found: dict[str, object] = {"x": a, "y": b}
    assert patched(found, []) is found
    new = object()
    assert patched(found, [([("x", a)], [("x", new)])]) == {"x": new, "y": b}
    assert patched(found, [([("y", object())], [("y", new)])]) == found, "another Service had it first"
    assert patched(found, [([("x", a)], [("z", new)])]) is None
    assert found == {"x": a, "y": b}


def test_a_memo_makes_again_what_has_another_input() -> None:
    memo: Memo[object] = Memo()
    first = memo.of((1, "a"), object)
    assert memo.of((1, "a"), object) is first
    assert memo.of((2, "a"), object) is not first
