"""Which maps the programs shall use: those pinned by an earlier agent, adopted or migrated, or fresh ones.

Same generation (hash of types.h and maps.h): all pinned maps are adopted. Another: a map whose layout and size did
not change is carried over as the same kernel object (so listeners stay, sockets keep their notes and workers their
heartbeat); of the rest, COPIED are copied entry by entry. The new generation is built aside and appears by one
rename, so a crash at any point leaves a whole generation. Sizes are asked of the kernel: a name proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mesh.capture import pins
from mesh.capture.objects import KernelError, Map, MapFull, fit, open_pin, pin

# State that the agent cannot make again by itself; the last heartbeat bridges the time until workers beat in the new
# map. Not listed: `listeners` and `ends` cannot be read back, `notes` and `shortcuts` not listed, `flows` and `lanes`
# are too short-lived; all of them change layout hardly ever.
COPIED = ("heartbeat", "settings", "pods", "port_rules", "backends", "destinations", "homes", "counters", "slots")
STAGING, REPLACED = "staging", "replaced"


class Generation:
    """The maps in use. `adopted`: something of an earlier agent is in them."""

    def __init__(self, node: Path, source: Path, fresh: dict[str, Map]) -> None:
        types, declared = (source / "types.h").read_text(), (source / "maps.h").read_text()
        self.node, self.fresh = node, fresh
        self.layouts = pins.layouts(types, declared)
        self.directory = node / pins.generation(types, declared)
        self.maps: dict[str, Map] = {}
        self.adopted = False

    def open(self) -> None:
        """Fill `maps`. Old generations stay until `finish`."""
        if (self.node / STAGING).exists():
            pins.remove_tree(self.node / STAGING)
        if self.directory.exists():
            if self._adopt():
                return
            self.directory.rename(self.node / REPLACED)
        self._migrate()

    def finish(self) -> None:
        """After the links use the new maps: forget every other generation."""
        for old in self._others():
            pins.remove_tree(old)

    def _pin(self, directory: Path, name: str) -> Path:
        return directory / f"{name}-{self.layouts[name]}"

    def _others(self) -> list[Path]:
        if not self.node.exists():
            return []
        return [path for path in self.node.iterdir() if path.name not in (pins.LINKS, STAGING, self.directory.name)]

    def _pinned(self, path: Path, like: Map) -> Map | None:
        """A pinned map, if it is one of just the shape that the programs expect."""
        fd = open_pin(path) if path.exists() else None
        if fd is None:
            return None
        found = Map(like.name, fd)
        if found.shape == like.shape:
            return found
        found.close()
        return None

    def _adopt(self) -> bool:
        found = {name: self._pinned(self._pin(self.directory, name), like) for name, like in self.fresh.items()}
        if None in found.values():
            for each in found.values():
                if each:
                    each.close()
            return False
        self.maps = {name: each for name, each in found.items() if each}
        for each in self.fresh.values():
            each.close()
        self.adopted = True
        return True

    def _migrate(self) -> None:
        staging, others = self.node / STAGING, self._others()
        staging.mkdir(parents=True, mode=0o700)
        for name, fresh in self.fresh.items():
            self.maps[name] = self._carried(name, fresh, others)
            pin(self.maps[name].fd, self._pin(staging, name))
        for name in COPIED:
            for old in others:
                self._copy(name, old)
        staging.rename(self.directory)
        self.adopted = bool(others)

    def _carried(self, name: str, fresh: Map, others: list[Path]) -> Map:
        for old in others:
            found = self._pinned(self._pin(old, name), fresh)
            if found:
                fresh.close()
                return found
        return fresh

    def _copy(self, name: str, old: Path) -> None:
        """Entries of the old generation's map of that name, if it was not carried over."""
        if self.maps[name] is not self.fresh[name]:
            return
        for path in old.glob(f"{name}-*"):
            fd = open_pin(path)
            if fd is not None:
                source = Map(name, fd)
                copy(source, self.maps[name])
                source.close()


def copy(source: Map, target: Map) -> None:
    """Every entry, cut or zero-filled to the target's size; what has no room is dropped (the agent writes it again)."""
    for key, value in source.items():
        with suppress(MapFull, KernelError):
            target.write(key, resize(value, source, target))


def resize(value: bytes, source: Map, target: Map) -> bytes:
    """A value in the target's width, per CPU where there is one for each."""
    if not source.per_cpu:
        return value
    each = [value[at : at + source.width] for at in range(0, len(value), source.width)]
    return b"".join(fit(part, target.width) for part in each)


def fresh_maps(numbers: Mapping[str, tuple[int, int]]) -> dict[str, Map]:
    return {name: Map(name, ours) for name, (_, ours) in numbers.items()}
