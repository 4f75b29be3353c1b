"""The kernel short-cut on one node: the program on its sockets, and the switch.

Which connections take it is decided in bpf/sockops.c, which messages in bpf/shortcut.c, for pods that ask for it. Here:
whether this node has it at all. It must have passed its trial in this very start (shortcut_trial), or it is off, with a
sentence. Off means at once: open connections go on by TCP. Invariant: it is never on without its program.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from mesh.capture._bpf import lib
from mesh.capture.objects import Map, check, index
from mesh.capture.programs import MAP_HOOK, load, program_id

SWITCHED_OFF = "it is switched off on this node"


class Shortcut:
    """`detail`: why this node does not have it; empty when it has."""

    def __init__(self, maps: Mapping[str, Map], code: bytes, detail: str) -> None:
        """`code`: relocated to `maps`. `detail`: what the trial found, or SWITCHED_OFF."""
        self.detail = detail
        self._settings, self._ends = maps["settings"], maps["ends"]
        self._program = -1 if detail else load(MAP_HOOK, code)

    @property
    def available(self) -> bool:
        return not self.detail

    def start(self) -> None:
        """Let the node's sockets in, or keep them out."""
        self.attach()
        set_switch(self._settings, self.available)

    def attach(self) -> list[str]:
        """The program on the map; a sentence when somebody had taken it off."""
        if not self.available:
            return []
        found = check(lib.bpf_map_program(self._ends.fd, MAP_HOOK.attach), "cannot ask for the short-cut's program")
        if found == program_id(self._program):
            return []
        attach(self._program, self._ends)
        return [f"{MAP_HOOK.name} was detached from its sockets"]

    def close(self) -> None:
        if self._program >= 0:
            os.close(self._program)


def attach(program: int, ends: Map) -> None:
    """Sockets that enter from now on have this program; those inside keep theirs."""
    check(lib.bpf_attach_map(program, ends.fd, MAP_HOOK.attach), f"cannot attach {MAP_HOOK.name}")


def set_switch(settings: Map, on: bool) -> None:
    settings.write(index(lib.SETTING_SHORTCUT), int(on).to_bytes(8, "little"))
