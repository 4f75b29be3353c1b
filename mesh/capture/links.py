"""Links: which program runs where, pinned so that it goes on running when every process of ours is gone.

A link is adopted and given the new program in one step (BPF_LINK_UPDATE), so a hook never has a gap. The agent also
holds a descriptor of each: removing a pin by hand detaches nothing, and `ensure` puts it back. A link whose target
is gone, or that somebody detached, is made anew. Invariant: no descriptor of a namespace or cgroup is kept, because
it would keep a dead pod's namespace alive.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mesh.capture._bpf import ffi, lib
from mesh.capture.objects import check, open_pin, pin
from mesh.capture.programs import program_id


class Links:
    """The pinned links of one node."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._held: dict[str, int] = {}
        for path in directory.iterdir():
            link = open_pin(path)
            if link is not None:
                self._held[path.name] = link

    def names(self) -> list[str]:
        return list(self._held)

    def pinned(self, name: str) -> bool:
        return (self.directory / name).exists()

    def target(self, name: str) -> int:
        """The cgroup id or netns inode that a link is attached to; 0: to nothing any more."""
        return int(self._info(name).target) if name in self._held else 0

    def swap(self, name: str, program: int) -> bool:
        """Give a link another program; False when the link is dead."""
        if self._info(name).program == program_id(program):
            return True
        return int(lib.bpf_swap(self._held[name], program)) == 0

    def _info(self, name: str) -> Any:
        info = ffi.new("struct link_info *")
        check(lib.bpf_link_info(self._held[name], info), f"cannot ask what {name} is attached to")
        return info

    def ensure(self, name: str, program: int, target: int, attach: int) -> str:
        """Attached to `target` (a descriptor) with this program, and pinned. Returns what had to be mended, if any."""
        path = self.directory / name
        if name in self._held and self.target(name) == os.fstat(target).st_ino and self.swap(name, program):
            if path.exists():
                return ""
            pin(self._held[name], path)
            return f"the pin of {name} was gone"
        known = name in self._held
        self.remove(name)
        link = check(lib.bpf_attach(program, target, attach), f"cannot attach {name}")
        self._held[name] = link
        pin(link, path)
        return f"{name} was detached" if known else ""

    def remove(self, name: str) -> None:
        """Detached when this returns, also if somebody else still holds the link."""
        (self.directory / name).unlink(missing_ok=True)
        link = self._held.pop(name, None)
        if link is not None:
            lib.bpf_detach(link)
            os.close(link)

    def close(self) -> None:
        for link in self._held.values():
            os.close(link)
        self._held.clear()
