"""Kernel: capture as the agent sees it. Opening it puts every hook in place; closing it changes nothing.

Blocking calls, used from one thread. The order of `open` is the promise of no gap: compile, adopt or migrate the
maps, load, let the caller prepare (`before_switch`), then point the pinned links at the new programs, and only then
forget what is old. Nothing here decides who is enrolled or where traffic goes; that is the agent's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from mesh.capture import pins as places
from mesh.capture import shortcut_trial
from mesh.capture._bpf import lib
from mesh.capture.compile import Compiled, compiled
from mesh.capture.destinations import Destinations
from mesh.capture.generation import Generation, fresh_maps
from mesh.capture.hooks import Hooks
from mesh.capture.objects import Map, index, pack, words
from mesh.capture.pods import PodCounters, Pods
from mesh.capture.programs import MAP_HOOK, relocate
from mesh.capture.shortcut import SWITCHED_OFF, Shortcut
from mesh.model import Destination, Direction, Pod

_MESH = Path(__file__).resolve().parents[1]
SOURCE = _MESH / "bpf" if (_MESH / "bpf").exists() else _MESH.parent / "bpf"  # of an installation; of a checkout
HEARTBEAT_NS_MAX = 3_000_000_000  # design, section 6: "everything hangs"
PODS_MAX: int = lib.PODS_MAX
MAX_WORKERS: int = lib.WORKERS_MAX
OUTBOUND_PORT: int = lib.OUTBOUND_PORT
INBOUND_PORT: int = lib.INBOUND_PORT
SEINE_SOL: int = lib.SEINE_SOL
SEINE_TRUE_CLIENT: int = lib.SEINE_TRUE_CLIENT


class Kernel:
    """Every hook of one node. Made by `open`."""

    def __init__(self, generation: Generation, hooks: Hooks, shortcut: Shortcut, cgroup: Path) -> None:
        self.cgroup, self.shortcut = cgroup, shortcut
        self.adopted = generation.adopted
        self.heartbeat_fd = generation.maps["heartbeat"].fd
        self._maps, self._hooks = generation.maps, hooks
        self._pods = Pods(generation.maps)
        self._destinations = Destinations(generation.maps)

    @classmethod
    def open(
        cls,
        node: str,
        *,
        cgroup_root: Path,
        pins: Path,
        source: Path = SOURCE,
        shortcut: bool = True,
        before_switch: Callable[[Kernel], None] | None = None,
    ) -> Kernel:
        """All hooks in place, what an earlier agent left adopted. `before_switch` may set listeners on the new maps.

        `shortcut`: False for no pod of this node, True for those that ask, if it passes its trial. Not from a running
        event loop.
        """
        result = compiled(source)
        fresh = fresh_maps(result.maps)
        trouble = shortcut_trial.problem(relocated(result, fresh), fresh, cgroup_root) if shortcut else SWITCHED_OFF
        generation = Generation(places.node_pins(pins, node), source, fresh)
        generation.open()
        code = relocated(result, generation.maps)
        fixed = places.fixed_cgroup(cgroup_root, node)
        hooks = Hooks(generation.node / places.LINKS, cgroup_root, fixed, code)
        kernel = cls(generation, hooks, Shortcut(generation.maps, code[MAP_HOOK.name], trouble), fixed)
        kernel._maps["settings"].write(index(lib.SETTING_HEARTBEAT_NS_MAX), HEARTBEAT_NS_MAX.to_bytes(8, "little"))
        kernel.shortcut.start()
        if before_switch:
            before_switch(kernel)
        hooks.attach()
        hooks.adopt_pods(kernel.slots())
        generation.finish()
        return kernel

    def slots(self) -> dict[int, int]:
        """slot -> netns cookie, as found in the maps."""
        return self._pods.slots()

    def enrol(self, slot: int, pod: Pod, netns_fd: int, cookie: int) -> None:
        """Capture a pod's connections from now on, both ways; again with changed settings is fine."""
        self._pods.write(slot, pod, cookie)
        self._hooks.attach_pod(slot, Path(pod.netns), netns_fd)
        self._pods.publish(slot, cookie)

    def unenrol(self, slot: int) -> None:
        """New connections go direct from now on; those that are open stay."""
        self._pods.hide(slot)
        self._hooks.detach_pod(slot)
        self._pods.erase(slot)

    def set_listener(self, slot: int, direction: Direction, fd: int) -> None:
        self._pods.set_listener(slot, direction, fd)

    def has_listener(self, slot: int, direction: Direction) -> bool:
        return self._pods.has_listener(slot, direction)

    def set_destinations(self, wanted: Mapping[tuple[str, int], Destination]) -> None:
        self._destinations.set(wanted)

    def counters(self) -> dict[int, PodCounters]:
        return self._pods.counters()

    def effective(self, cgroup: Path) -> bool:
        """True when a process in this cgroup runs all of our root hooks."""
        return self._hooks.effective(cgroup)

    def set_kubelet(self, cgroup: int) -> None:
        """Whose connections reach any pod; see bpf/sk_lookup.c."""
        self._maps["settings"].write(index(lib.SETTING_KUBELET), cgroup.to_bytes(8, "little"))

    def is_probe(self, client: tuple[str, int], server: tuple[str, int]) -> bool:
        """Whether kubelet began this connection, as far as is remembered: of the last 8192 of its."""
        key = pack("probe", client=_ends(client), server=_ends(server))
        return self._maps["probes"].read(key) is not None

    def repair(self) -> list[str]:
        """Put back what somebody detached or unpinned; a sentence for each thing mended."""
        return self._hooks.repair() + self.shortcut.attach()

    def close(self) -> None:
        """Give up our descriptors. The pins keep every hook in place."""
        self._hooks.close()
        self.shortcut.close()
        for each in self._maps.values():
            each.close()


def _ends(address: tuple[str, int]) -> dict[str, object]:
    return {"ip": words(address[0]), "port": address[1]}


def relocated(result: Compiled, maps: Mapping[str, Map]) -> dict[str, bytes]:
    """All bytecode, for these maps."""
    descriptors = {theirs: maps[name].fd for name, (theirs, _) in result.maps.items()}
    return {name: relocate(each, descriptors) for name, each in result.code.items()}
