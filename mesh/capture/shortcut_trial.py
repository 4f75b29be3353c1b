"""Does the kernel short-cut carry bytes as they are? Tried in a throw-away namespace and cgroup, before it is used.

The programs are the real ones, on maps that nobody uses yet and that are left empty; what is tried with them stands in
shortcut_bytes. Takes 50 ms on an idle core. Not from a running event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from mesh.capture._bpf import lib
from mesh.capture.objects import KernelError, Map, check, index, pack
from mesh.capture.pods import summed
from mesh.capture.programs import MAP_HOOK, ROOT_HOOKS, load
from mesh.capture.shortcut import attach, set_switch
from mesh.capture.shortcut_bytes import SOCKETS, Damage, Sockets, carry_all
from mesh.capture.sockets import SocketFactory
from mesh.node import netns

SLOT = 0
SOCKOPS = next(hook for hook in ROOT_HOOKS if hook.name == "sockops")
LOOPBACK: dict[str, int] = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}  # the second only where there is IPv6


def problem(code: Mapping[str, bytes], maps: Mapping[str, Map], root: Path) -> str:
    """Why the short-cut cannot be trusted here; empty: it can. `code`: relocated to `maps`; `root`: of cgroup2."""
    try:
        with ExitStack() as undo:
            for address, sockets in _prepare(code, maps, root, undo).items():
                carry_all(sockets, address)
            if not summed(maps["counters"], SLOT)["shortcut_messages"]:
                return "in its trial no message took it"
    except (OSError, KernelError, Damage) as reason:
        return f"its trial failed: {getattr(reason, 'strerror', None) or reason}"
    return ""


# --- the place


def _prepare(code: Mapping[str, bytes], maps: Mapping[str, Map], root: Path, undo: ExitStack) -> dict[str, Sockets]:
    """Unconnected sockets by address; what they do goes through the programs."""
    undo.callback(_empty, maps)
    namespace = f"/proc/{os.getpid()}/fd/{_kept(netns.make(), undo)}"
    netns.inside(namespace, netns.loopback_up)
    cookie = netns.cookie(namespace)
    maps["pods"].write(index(SLOT), pack("pod", netns=cookie, flags=lib.POD_ENROLLED | lib.POD_SHORTCUT))
    maps["slots"].write(cookie.to_bytes(8, "little"), index(SLOT))
    set_switch(maps["settings"], True)
    attach(_kept(load(MAP_HOOK, code[MAP_HOOK.name]), undo), maps["ends"])
    cgroup = undo.enter_context(_cgroup(root))
    program = _kept(load(SOCKOPS, code[SOCKOPS.name]), undo)
    target = _kept(os.open(cgroup, os.O_RDONLY | os.O_CLOEXEC), undo)
    link = _kept(check(lib.bpf_attach(program, target, SOCKOPS.attach), f"cannot attach {SOCKOPS.name}"), undo)
    undo.callback(lib.bpf_detach, link)
    addresses = netns.inside(namespace, netns.own_addresses)
    families = {address: family for address, family in LOOPBACK.items() if address in addresses}
    return asyncio.run(_make_sockets(cgroup, namespace, families, undo))


def _kept(descriptor: int, undo: ExitStack) -> int:
    undo.callback(os.close, descriptor)
    return descriptor


def _empty(maps: Mapping[str, Map]) -> None:
    """As if nothing had happened: these maps may become the node's."""
    set_switch(maps["settings"], False)
    for name in ("slots", "lanes", "flows"):
        for key in maps[name].all_keys():
            maps[name].remove(key)
    for name in ("pods", "counters"):
        maps[name].write(index(SLOT), bytes(maps[name].value_size))


@contextmanager
def _cgroup(root: Path) -> Iterator[Path]:
    """Its name begins with a dot, which no node's can. One of a process that was killed is removed."""
    for dead in root.glob(".seine-trial-*"):
        if not Path(f"/proc/{dead.name.rpartition('-')[2]}").exists():
            with suppress(OSError):
                dead.rmdir()
    path = root / f".seine-trial-{os.getpid()}"
    path.mkdir(exist_ok=True)
    try:
        yield path
    finally:
        with suppress(OSError):  # the verdict is about bytes
            path.rmdir()


async def _make_sockets(
    cgroup: Path, namespace: str, families: Mapping[str, int], undo: ExitStack
) -> dict[str, Sockets]:
    """A socket belongs to the cgroup of the process that made it, so a helper in the cgroup makes them."""
    factory = SocketFactory()
    found: dict[str, Sockets] = {}
    try:
        await factory.start(cgroup)
        for address, family in families.items():
            made = await factory.sockets(namespace, family, SOCKETS)
            found[address] = [undo.enter_context(socket.socket(fileno=fd)) for fd in made]
    finally:
        await factory.close()
    return found
