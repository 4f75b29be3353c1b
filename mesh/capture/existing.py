"""Connections of a pod that go past the mesh because they are older than its capture; and their end, on request.

The kernel lists the sockets of the pod's namespace with the cgroup each was created in. Ours are those of the fixed
cgroup; what the hooks sent to us has a loopback peer. What is left and should have been captured is a bypass: an
inbound connection to a port that the pod listens on, or an outbound one to a destination that the mesh knows.
Bias: an outbound connection whose local port happens to be listened on too is called inbound; it counts either way.
Source: sock_diag(7); SOCK_DESTROY sends a reset to the peer and fails the owner's next call with ECONNABORTED.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path

from mesh.model import Direction, Pod, Value
from mesh.node import sockdiag
from mesh.node.sockdiag import Connection


class Bypass(Value, frozen=True):
    """An established connection of the pod that the mesh does not carry."""

    direction: Direction
    connection: Connection


async def established(pod: Pod, ours: Path, destinations: Collection[tuple[str, int]]) -> tuple[Bypass, ...]:
    """The pod's bypasses. `ours`: the fixed cgroup; `destinations`: {address, port}, port 0 for any. Raises OSError."""
    return await asyncio.to_thread(lambda: bypasses(pod, _list(pod.netns), ours.stat().st_ino, destinations))


def bypasses(
    pod: Pod, listed: Iterable[Connection], ours: int, destinations: Collection[tuple[str, int]]
) -> tuple[Bypass, ...]:
    """Those of the established sockets among `listed` (with listeners) that should have been captured and are not."""
    theirs = [one for one in listed if one.cgroup_id != ours]
    listening = {one.local_port for one in theirs if one.state == sockdiag.LISTEN}
    found = []
    for one in theirs:
        if one.state != sockdiag.ESTABLISHED or _stays_inside(pod, one):
            continue
        if one.local_port in listening:
            direction, skipped = Direction.INBOUND, one.local_port in pod.skip_inbound_ports
        elif (one.peer, one.peer_port) in destinations or (one.peer, 0) in destinations:
            direction, skipped = Direction.OUTBOUND, one.peer_port in pod.skip_outbound_ports
        else:
            continue
        if not skipped:
            found.append(Bypass(direction=direction, connection=one))
    return tuple(found)


def _stays_inside(pod: Pod, one: Connection) -> bool:
    """Between two sockets of the pod, or between the pod's and ours."""
    return one.peer in (one.local, "::1", *pod.workload.addresses) or one.peer.startswith("127.")


async def destroy(
    pod: Pod,
    wanted: Collection[Bypass],
    seconds: float,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    handled: Callable[[bool], object] = bool,
) -> int:
    """End these connections one by one, spread over `seconds` so that clients do not all return at once.

    Returns how many were still there; `handled` is told of each whether it was. Raises OSError when the kernel cannot,
    or the namespace is gone.
    """
    ended = 0
    for number, one in enumerate(wanted):
        if number:
            await sleep(seconds / len(wanted))
        was_there = await asyncio.to_thread(_end, pod.netns, one.connection)
        handled(was_there)
        ended += was_there
    return ended


def _list(netns: str) -> list[Connection]:
    with sockdiag.open_inside(netns) as sock:
        listed = list(sockdiag.connections(sock, sockdiag.ESTABLISHED, sockdiag.LISTEN))
    if any(one.cgroup_id < 0 for one in listed):
        raise OSError(errno.EOPNOTSUPP, "the kernel does not say which cgroup a socket belongs to (Linux 5.7 does)")
    return listed


def _end(netns: str, connection: Connection) -> bool:
    """A socket for each: one kept over the drain time would keep a dead pod's namespace alive."""
    with sockdiag.open_inside(netns) as sock:
        try:
            return sockdiag.destroy(sock, connection)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            reason = "the kernel cannot end other processes' connections (CONFIG_INET_DIAG_DESTROY is off)"
            raise OSError(error.errno, f"{reason}; restart the pod instead") from None
