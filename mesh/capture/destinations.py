"""The tables that connect decides by: destinations and backends, reconciled with what is wanted.

Hooks read while we write, hence: a new set of backends is a new group, complete before the one write that makes the
destination point at it; the old group goes last. Adds before removes, so a change never leaves a gap; only when a
table is full are removes done first. Only the difference is written.

What the hook does not know goes direct, so room is for those first behind whom a tunnel is used: they come first, and
the others make room for them. Should even they be too many, the hook is told that it cannot know, and how many. A
Service whose backends have no room is there without: captured while a worker lives, refused while none does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from mesh.aio.difference import difference
from mesh.capture._bpf import lib
from mesh.capture.objects import KernelError, Map, MapFull, index, pack, pack_address, unpack
from mesh.model import Destination


class Entry(NamedTuple):
    """What one destination says: its kind and its backends as struct address."""

    kind: int
    backends: tuple[bytes, ...]


class Translated(NamedTuple):
    """A destination in the kernel's terms, kept so that the next reconciliation need not translate it again."""

    wanted: Destination
    key: bytes
    entry: Entry


class Destinations:
    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._destinations, self._backends, self._settings = maps["destinations"], maps["backends"], maps["settings"]
        self._have: dict[bytes, Entry] = {}
        self._group: dict[bytes, int] = {}
        self._next_group = 1
        self._told: Mapping[tuple[str, int], Destination] | None = None  # what is in effect; None: not all of it is
        self._translated: dict[tuple[str, int], Translated] = {}  # while it is not
        self._recover()

    def set(self, wanted: Mapping[tuple[str, int], Destination]) -> None:
        """Make the tables say what is wanted. What has no room is left out and counted; all else is in effect."""
        told, self._told = self._told, None
        if told is None or not self._patch(told, wanted):
            self._reconcile(wanted)
        self._told, self._translated = wanted, {}

    def _patch(
        self, told: Mapping[tuple[str, int], Destination], wanted: Mapping[tuple[str, int], Destination]
    ) -> bool:
        """The usual case: a few are different, and have room. False: they have none."""
        changed, gone = difference(told, wanted)
        for key in changed:
            packed, value = pack_address(*key), entry(wanted[key])
            if self._have.get(packed) != value:
                self._put(packed, value)
            if self._have.get(packed) != value:
                return False
        for key in gone:
            self._drop(pack_address(*key))
        return True

    def _reconcile(self, wanted: Mapping[tuple[str, int], Destination]) -> None:
        """Whatever the tables say. Raises KernelError where not all is in effect afterwards."""
        self._translated = {key: self._translate(key, value) for key, value in wanted.items()}
        entries = {each.key: each.entry for each in self._translated.values()}
        guarded = {each.key for each in self._translated.values() if each.wanted.guarded}
        changed = [key for key, value in entries.items() if self._have.get(key) != value]
        changed.sort(key=lambda key: key not in guarded)
        for key in changed:
            self._put(key, entries[key])
        for key in self._have.keys() - entries.keys():
            self._drop(key)
        again = [key for key in changed if self._have.get(key) != entries[key]]
        homeless = [key for key in again if not self._put(key, entries[key])]
        if guarded.intersection(homeless):
            homeless = self._make_room(homeless, guarded, entries)
        left_out = len(guarded.intersection(homeless))
        self._settings.write(index(lib.SETTING_LEFT_OUT), left_out.to_bytes(8, "little"))
        bare = sum(key in self._have and self._have[key] != entries[key] for key in again)
        if homeless or bare:
            raise KernelError(_full(len(entries), len(homeless), left_out, bare))

    def _make_room(
        self, homeless: list[bytes], guarded: Collection[bytes], entries: Mapping[bytes, Entry]
    ) -> list[bytes]:
        """For those with a tunnel behind them, at the cost of others; who has none now."""
        others = [key for key in self._have if key not in guarded]
        left = [key for key in homeless if key not in guarded]
        for key in (key for key in homeless if key in guarded):
            if others:
                left.append(others[-1])
                self._drop(others.pop())
            if not self._put(key, entries[key]):
                left.append(key)
        return left

    def _translate(self, key: tuple[str, int], value: Destination) -> Translated:
        """50 us for five backends, hence only what changed."""
        known = self._translated.get(key)
        return known if known and known.wanted == value else Translated(value, pack_address(*key), entry(value))

    def _put(self, key: bytes, value: Entry) -> bool:
        """Point one destination at its backends, or at none where these have no room; False when it has none itself."""
        old, group = self._group.get(key), self._write_group(value.backends)
        if value.backends and not group:
            value = Entry(value.kind, ())
        count = len(value.backends)
        try:
            self._destinations.write(key, pack("destination", kind=value.kind, group=group, backends=count))
        except MapFull:
            self._remove_group(group, count)
            return False
        self._remove_group(old or 0, len(self._have[key].backends) if key in self._have else 0)
        self._have[key], self._group[key] = value, group
        return True

    def _write_group(self, backends: tuple[bytes, ...]) -> int:
        """Its number; 0: it has no members, or no room."""
        group = self._next_group
        self._next_group += 1
        try:
            for at, backend in enumerate(backends):
                self._backends.write(pack("backend_key", group=group, index=at), backend)
        except MapFull:
            self._remove_group(group, len(backends))
            return 0
        return group if backends else 0

    def _drop(self, key: bytes) -> None:
        self._destinations.remove(key)
        self._remove_group(self._group.pop(key), len(self._have.pop(key).backends))

    def _remove_group(self, group: int, count: int) -> None:
        for at in range(count):
            self._backends.remove(pack("backend_key", group=group, index=at))

    def _recover(self) -> None:
        """Read what an earlier agent left, and drop backends that no destination points at."""
        groups: dict[int, dict[int, bytes]] = {}
        for key, value in self._backends.items():
            at = unpack("backend_key", key)
            groups.setdefault(at.group, {})[at.index] = value
        for key, value in self._destinations.items():
            found = unpack("destination", value)
            members = groups.pop(found.group, {})
            self._have[key] = Entry(found.kind, tuple(members.get(at, b"") for at in range(found.backends)))
            self._group[key] = found.group
            self._next_group = max(self._next_group, found.group + 1)
        for group, members in groups.items():
            self._next_group = max(self._next_group, group + 1)
            for at in members:
                self._backends.remove(pack("backend_key", group=group, index=at))


def _full(wanted: int, homeless: int, left_out: int, bare: int) -> str:
    """What that means."""
    parts = []
    if homeless:
        tunnels = f", of which {left_out} ought to go by tunnel (strict pods are refused there)" if left_out else ""
        parts.append(f"{homeless} of {wanted} destinations go direct{tunnels}")
    if bare:
        parts.append(f"the backends of {bare} have no room, so they are refused while no worker lives")
    return f"the kernel's tables are full: {'; '.join(parts)}"


def entry(destination: Destination) -> Entry:
    """What the kernel is told: backends of the address's own family, because a socket cannot change its family."""
    version = ip_address(destination.address).version
    backends = tuple(
        pack_address(address, port) for address, port in destination.backends if ip_address(address).version == version
    )
    if destination.tunnelled:
        return Entry(lib.DESTINATION_TUNNEL, ())
    if not destination.service:
        return Entry(lib.DESTINATION_POD, ())
    return Entry(lib.DESTINATION_SERVICE if destination.backends else lib.DESTINATION_EMPTY, backends)
