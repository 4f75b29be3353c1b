"""Reconciling destinations: only differences are written, and at no moment does a destination lack its backends."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import cast

import pytest

from mesh.capture._bpf import lib
from mesh.capture.destinations import Destinations, entry
from mesh.capture.objects import KernelError, Map, MapFull, index, pack, pack_address, unpack
from mesh.model import Destination


class FakeMap:
    """A map in memory that can be full, and calls `watch` after each change."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.held: dict[bytes, bytes] = {}
        self.room, self.writes = room, 0
        self.watch = lambda: None

    def write(self, key: bytes, value: bytes) -> None:
        if key not in self.held and len(self.held) >= self.room:
            raise MapFull("full")
        self.held[key] = value
        self.writes += 1
        self.watch()

    def remove(self, key: bytes) -> None:
        self.held.pop(key, None)
        self.watch()

    def items(self):
        return list(self.held.items())


class Tables:
    def __init__(self, destinations: int = 1 << 30, backends: int = 1 << 30) -> None:
        self.maps = {"destinations": FakeMap(destinations), "backends": FakeMap(backends), "settings": FakeMap()}
        self.table = self.successor()

    def successor(self) -> Destinations:
        """What a new agent makes of the same tables."""
        return Destinations(cast("Mapping[str, Map]", self.maps))

    def want(self, *wanted: Destination) -> None:
        self.table.set({(each.address, each.port): each for each in wanted})

    def picks(self, address: str, port: int) -> set[bytes]:
        """What the hook's picker could return; an assertion when a backend is missing."""
        found = unpack("destination", self.maps["destinations"].held[pack_address(address, port)])
        keys = [pack("backend_key", group=found.group, index=at) for at in range(found.backends)]
        return {self.maps["backends"].held[key] for key in keys}

    @property
    def writes(self) -> int:
        return sum(self.maps[name].writes for name in ("destinations", "backends"))

    @property
    def left_out(self) -> int:
        """What the hook is told."""
        return int.from_bytes(self.maps["settings"].held[index(lib.SETTING_LEFT_OUT)], "little")


def service(address: str, *backends: tuple[str, int], port: int = 80) -> Destination:
    return Destination(address=address, port=port, service=True, backends=backends)


def test_kinds():
    assert entry(service("10.0.0.1", ("10.1.0.1", 80))).kind == lib.DESTINATION_SERVICE
    assert entry(service("10.0.0.1")).kind == lib.DESTINATION_EMPTY
    assert entry(Destination(address="10.0.0.1", port=0, service=False)).kind == lib.DESTINATION_POD
    for is_service in (True, False):
        tunnelled = Destination(address="10.0.0.1", port=80, service=is_service, tunnelled=True)
        assert entry(tunnelled) == (lib.DESTINATION_TUNNEL, ())


def test_backends_of_another_family_are_left_out_but_the_service_is_not_empty():
    found = entry(service("10.0.0.1", ("fd00::1", 80), ("10.1.0.1", 80)))
    assert found.backends == (pack_address("10.1.0.1", 80),)
    assert entry(service("10.0.0.1", ("fd00::1", 80))) == (lib.DESTINATION_SERVICE, ())


def test_the_same_again_writes_nothing():
    tables = Tables()
    wanted = [service("10.0.0.1", ("10.1.0.1", 80)), service("10.0.0.2")]
    tables.want(*wanted)
    before = tables.writes
    tables.want(*wanted)
    assert tables.writes == before


def test_what_is_not_wanted_any_more_goes_with_its_backends():
    tables = Tables()
    tables.want(service("10.0.0.1", ("10.1.0.1", 80)), service("10.0.0.2", ("10.1.0.2", 80)))
    tables.want(service("10.0.0.2", ("10.1.0.2", 80)))
    assert len(tables.maps["destinations"].held) == len(tables.maps["backends"].held) == 1


def test_a_hook_that_reads_at_any_moment_finds_a_whole_set():
    tables, chance = Tables(), random.Random(7)
    sets = [[(f"10.1.{n}.{m}", 80) for m in range(chance.randint(1, 9))] for n in range(30)]
    tables.want(service("10.0.0.1", *sets[0]))
    old = new = {pack_address(*each) for each in sets[0]}

    def look() -> None:
        assert tables.picks("10.0.0.1", 80) in (old, new)

    for each in tables.maps.values():
        each.watch = look
    for backends in sets[1:]:
        new = {pack_address(*each) for each in backends}
        tables.want(service("10.0.0.1", *backends))
        assert tables.picks("10.0.0.1", 80) == new
        old = new


def test_a_successor_continues_and_sweeps_orphans():
    tables = Tables()
    wanted = service("10.0.0.1", ("10.1.0.1", 80), ("10.1.0.2", 80))
    tables.want(wanted)
    tables.maps["backends"].held[pack("backend_key", group=99, index=0)] = pack_address("10.9.9.9", 9)
    tables.table = tables.successor()
    before = tables.writes
    tables.want(wanted)
    assert tables.writes == before
    assert len(tables.maps["backends"].held) == 2
    tables.want(service("10.0.0.1", ("10.1.0.3", 80)))
    assert tables.picks("10.0.0.1", 80) == {pack_address("10.1.0.3", 80)}
    assert pack("backend_key", group=100, index=0) in tables.maps["backends"].held


def test_a_set_that_a_crash_left_incomplete_is_written_again():
    tables = Tables()
    wanted = service("10.0.0.1", ("10.1.0.1", 80), ("10.1.0.2", 80))
    tables.want(wanted)
    del tables.maps["backends"].held[next(iter(tables.maps["backends"].held))]
    tables.table = tables.successor()
    tables.want(wanted)
    assert tables.picks("10.0.0.1", 80) == {pack_address("10.1.0.1", 80), pack_address("10.1.0.2", 80)}


def test_a_full_table_takes_what_fits_and_says_so():
    tables = Tables(destinations=2)
    with pytest.raises(KernelError, match="1 of 3 destinations"):
        tables.want(*(service(f"10.0.0.{n}") for n in range(3)))
    assert len(tables.maps["destinations"].held) == 2


def test_a_full_table_makes_room_first():
    tables = Tables(destinations=2)
    tables.want(service("10.0.0.1"), service("10.0.0.2"))
    tables.want(service("10.0.0.3"), service("10.0.0.4"))
    assert len(tables.maps["destinations"].held) == 2


def test_what_had_no_room_is_tried_again_and_what_a_failure_interrupted_too():
    tables = Tables(destinations=1)
    wanted = [service("10.0.0.1"), service("10.0.0.2", ("10.1.0.1", 80))]
    with pytest.raises(KernelError):
        tables.want(*wanted)
    tables.maps["destinations"].room = 9

    def fail() -> None:
        raise KernelError("no memory")

    tables.maps["backends"].watch = fail
    with pytest.raises(KernelError, match="no memory"):
        tables.want(*wanted)
    tables.maps["backends"].watch = lambda: None
    tables.want(*wanted)
    assert tables.picks("10.0.0.2", 80) == {pack_address("10.1.0.1", 80)}


@pytest.mark.parametrize("seed", range(20))
def test_whatever_changes_the_tables_say_exactly_what_is_wanted_or_it_is_told(seed: int) -> None:
    chance = random.Random(seed)
    tables = Tables(destinations=6, backends=9)
    for _ in range(60):
        wanted = [
            service(f"10.0.0.{n}", *((f"10.1.{n}.{m}", 80) for m in range(chance.randrange(4))))
            for n in chance.sample(range(8), chance.randrange(8))
        ]
        if chance.random() < 0.1:
            tables.table = tables.successor()
        try:
            tables.want(*wanted)
        except KernelError:
            continue
        assert kept(tables) == {pack_address(each.address, 80) for each in wanted}
        assert len(tables.maps["backends"].held) == sum(len(each.backends) for each in wanted)
        for each in wanted:
            assert tables.picks(each.address, 80) == {pack_address(*backend) for backend in each.backends}


def test_what_an_earlier_agent_left_makes_room():
    tables = Tables(destinations=2)
    tables.want(service("10.0.0.1"), service("10.0.0.2"))
    tables.table = tables.successor()
    tables.want(service("10.0.0.2"), service("10.0.0.3"))
    assert set(tables.maps["destinations"].held) == {pack_address(f"10.0.0.{n}", 80) for n in (2, 3)}


def test_a_service_whose_backends_have_no_room_is_there_without_until_they_have():
    """Captured while a worker lives, and refused while none does; left out, it would go direct."""
    tables = Tables(backends=2)
    wanted = service("10.0.0.1", *((f"10.1.0.{n}", 80) for n in range(3)))
    with pytest.raises(KernelError, match="the backends of 1 have no room, so they are refused while no worker lives"):
        tables.want(wanted)
    assert tables.maps["backends"].held == {}
    assert tables.picks("10.0.0.1", 80) == set()
    tables.maps["backends"].room = 3
    tables.want(wanted)
    assert len(tables.picks("10.0.0.1", 80)) == 3


def tunnelled(address: str) -> Destination:
    return Destination(address=address, port=0, service=False, guarded=True, tunnelled=True)


def kept(tables: Tables) -> set[bytes]:
    return set(tables.maps["destinations"].held)


def test_in_a_full_table_whoever_is_reached_by_tunnel_has_room_before_others():
    """What the hook does not know goes direct, and for him that would be plaintext."""
    tables = Tables(destinations=2, backends=4)
    with pytest.raises(KernelError, match=r"1 of 3 destinations go direct$"):
        tables.want(service("10.0.0.1", ("10.1.0.1", 80)), service("10.0.0.2"), tunnelled("10.2.0.1"))
    assert pack_address("10.2.0.1", 0) in kept(tables)
    with pytest.raises(KernelError, match=r"2 of 4 destinations go direct$"):
        tables.want(service("10.0.0.1"), service("10.0.0.2"), tunnelled("10.2.0.1"), tunnelled("10.2.0.2"))
    assert kept(tables) == {pack_address("10.2.0.1", 0), pack_address("10.2.0.2", 0)}
    assert tables.maps["backends"].held == {}
    assert tables.left_out == 0


def test_if_even_those_are_too_many_the_hook_is_told():
    tables = Tables(destinations=2)
    several = [tunnelled(f"10.2.0.{n}") for n in range(3)]
    with pytest.raises(KernelError, match=r"2 of 4 destinations go direct, of which 1 ought to go by tunnel"):
        tables.want(service("10.0.0.1"), *several)
    assert tables.left_out == 1
    tables.want(*several[:2])
    assert tables.left_out == 0
    assert len(kept(tables)) == 2
