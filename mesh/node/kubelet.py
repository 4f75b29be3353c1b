"""Which cgroup this node's kubelet is in: that of the process that listens on kubelet's port in our own network.

Its connections are told from everybody else's by that cgroup, so it must not be one that strangers share: not the root
of the tree, and no process in it that is not root's (a login session has such). A service manager gives kubelet, or k3s
with all that it starts, one of its own. Sources: sock_diag(7), cgroups(7).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mesh.node import netlink, sockdiag

PORT = 10250  # where the Node object does not say otherwise
DEPTH_MAX = 8


class NoKubelet(Exception):
    """A sentence: why its connections cannot be told from others."""


def listening_cgroup(port: int) -> int:
    """Id of the cgroup whose process listens there, in the network of the caller. Raises NoKubelet and OSError."""
    with netlink.open_socket(sockdiag.NETLINK_SOCK_DIAG) as sock:
        found = {each.cgroup_id for each in sockdiag.connections(sock, sockdiag.LISTEN) if each.local_port == port}
    if len(found) != 1:
        who = "nobody listens" if not found else "processes of several cgroups listen"
        raise NoKubelet(f"{who} on kubelet's port {port}")
    return found.pop()


def check_own(root: Path, cgroup: int) -> None:
    """Whether nobody else could be taken for kubelet there. Raises NoKubelet."""
    if root.stat().st_ino == cgroup:
        raise NoKubelet("kubelet is in the root cgroup, as many others are")
    folder = next(_folders(root, cgroup, DEPTH_MAX), None)
    if folder is None:
        raise NoKubelet("kubelet's cgroup is not in the tree that we see")
    for pid in (folder / "cgroup.procs").read_text().split():
        try:
            owner = os.stat(f"/proc/{pid}").st_uid
        except FileNotFoundError:
            continue
        if owner != 0:
            raise NoKubelet(f"kubelet shares its cgroup {folder} with a process of uid {owner}")


def _folders(folder: Path, inode: int, depth: int) -> Iterator[Path]:
    try:
        entries = [each for each in os.scandir(folder) if each.is_dir(follow_symlinks=False)]
    except OSError:  # it went while we looked
        return
    for each in entries:
        if each.inode() == inode:
            yield folder / each.name
        elif depth > 1:
            yield from _folders(folder / each.name, inode, depth - 1)
