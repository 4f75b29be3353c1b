"""The loaded programs and where they are attached: cgroup root, fixed cgroup, and each pod's namespace.

`attach` is what start and repair have in common: it makes true that every hook runs, and says what was not so.
The kernel is asked for the truth (link info, and the list of effective programs), never a memory of ours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mesh.capture.links import Links
from mesh.capture.programs import FIXED_HOOKS, POD_HOOK, ROOT_HOOKS, Hook, effective, load, patch_slot, program_id


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def link_name(slot: int) -> str:
    return f"{POD_HOOK.name}-{slot}"


class Hooks:
    def __init__(self, directory: Path, root: Path, fixed: Path, code: Mapping[str, bytes]) -> None:
        """`root` and `fixed`: cgroups. `code`: relocated bytecode per hook."""
        self._links = Links(directory)
        self._places = dict.fromkeys(ROOT_HOOKS, root) | dict.fromkeys(FIXED_HOOKS, fixed)
        self._programs = {hook: load(hook, code[hook.name]) for hook in self._places}
        self._pod_code = code[POD_HOOK.name]
        self._namespaces: dict[int, tuple[Path, int]] = {}  # slot -> path and inode of what it was attached to

    def attach(self) -> list[str]:
        """The cgroup hooks; returns a sentence for each that had been there and was not any more."""
        mended = []
        for hook, place in self._places.items():
            place.mkdir(exist_ok=True)
            with opened(place) as target:
                if hook.name in self._links.names() and not self._runs(target, hook):
                    self._links.swap(hook.name, self._programs[hook])
                    if not self._runs(target, hook):
                        self._links.remove(hook.name)
                        mended.append(f"{hook.name} was not attached to {place} any more")
                mended.append(self._links.ensure(hook.name, self._programs[hook], target, hook.attach))
        return [sentence for sentence in mended if sentence]

    def attach_pod(self, slot: int, path: Path, netns: int) -> str:
        """sk_lookup for one pod; `netns` is a descriptor, `path` where to find it again."""
        program = load(POD_HOOK, patch_slot(self._pod_code, slot))
        try:
            mended = self._links.ensure(link_name(slot), program, netns, POD_HOOK.attach)
        finally:
            os.close(program)
        self._namespaces[slot] = (path, os.fstat(netns).st_ino)
        return mended

    def detach_pod(self, slot: int) -> None:
        self._links.remove(link_name(slot))
        self._namespaces.pop(slot, None)

    def adopt_pods(self, slots: Iterable[int]) -> None:
        """Links of an earlier agent get this agent's program; those of nobody go. Dead namespaces are the agent's."""
        expected = {link_name(slot): slot for slot in slots}
        for name in self._links.names():
            if not name.startswith(f"{POD_HOOK.name}-"):
                continue
            if name not in expected:
                self._links.remove(name)
                continue
            program = load(POD_HOOK, patch_slot(self._pod_code, expected[name]))
            self._links.swap(name, program)
            os.close(program)

    def repair(self) -> list[str]:
        return self.attach() + self._repair_pods()

    def _repair_pods(self) -> list[str]:
        """A namespace that is gone, or another one under the same path, is not repaired: that pod has ended."""
        mended = []
        for slot, (path, inode) in list(self._namespaces.items()):
            with suppress(FileNotFoundError), opened(path) as netns:
                if os.fstat(netns).st_ino != inode:
                    continue
                if self._links.target(link_name(slot)) != inode or not self._links.pinned(link_name(slot)):
                    mended.append(self.attach_pod(slot, path, netns))
        return [sentence for sentence in mended if sentence]

    def effective(self, cgroup: Path) -> bool:
        with opened(cgroup) as fd:
            return all(self._runs(fd, hook) for hook in ROOT_HOOKS)

    def _runs(self, cgroup: int, hook: Hook) -> bool:
        return program_id(self._programs[hook]) in effective(cgroup, hook)

    def close(self) -> None:
        self._links.close()
        for program in self._programs.values():
            os.close(program)
