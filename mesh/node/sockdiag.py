"""The TCP sockets of a network namespace as the kernel lists them, and their end by SOCK_DESTROY.

Every call speaks of the namespace that its netlink socket was made in. A v4-mapped socket is listed as IPv6 and its
addresses are shown as IPv4: one notation for one connection.
Source: sock_diag(7), include/uapi/linux/inet_diag.h. INET_DIAG_CGROUP_ID since Linux 5.7, SOCK_DESTROY with
CONFIG_INET_DIAG_DESTROY.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

from mesh.model import Value
from mesh.node import netlink, netns

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
SOCK_DESTROY = 21
INET_DIAG_CGROUP_ID = 21

ESTABLISHED, CLOSE_WAIT, LISTEN = 1, 8, 10  # include/net/tcp_states.h
FAMILIES = (socket.AF_INET, socket.AF_INET6)

_REQUEST = struct.Struct("=BBBBI")  # family, protocol, extensions, padding, states; then a socket id
_MESSAGE = struct.Struct("=BBBB")  # family, state, timer, retransmits; then a socket id, then five u32
_MAPPED = bytes(10) + b"\xff\xff"
_ID_BYTES = 48
_ATTRIBUTES_AT = _MESSAGE.size + _ID_BYTES + 20


class Connection(Value, frozen=True):
    """One TCP socket. `cgroup_id` is the inode of the cgroup it was created in; -1 where the kernel does not say."""

    family: int
    state: int
    local: str
    local_port: int
    peer: str
    peer_port: int
    cgroup_id: int
    key: bytes  # the kernel's own id of it, with its cookie: names this socket and never a later one


def open_inside(path: str) -> socket.socket:
    """A sock_diag socket of the namespace at a path. Raises OSError."""
    return netns.inside(path, lambda: netlink.open_socket(NETLINK_SOCK_DIAG))


def connections(sock: socket.socket, *states: int) -> Iterator[Connection]:
    """The namespace's TCP sockets of both families that are in one of the states. Raises OSError."""
    wanted = sum(1 << state for state in states)
    for family in FAMILIES:
        question = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, wanted) + bytes(_ID_BYTES)
        for body in netlink.request(sock, SOCK_DIAG_BY_FAMILY, netlink.NLM_F_DUMP, question):
            yield _decode(body)


def destroy(sock: socket.socket, connection: Connection) -> bool:
    """Abort one connection: both ends see a reset. False when it had ended already. Raises OSError."""
    states = 0xFFFFFFFF
    question = _REQUEST.pack(connection.family, socket.IPPROTO_TCP, 0, 0, states) + connection.key
    try:
        list(netlink.request(sock, SOCK_DESTROY, netlink.NLM_F_ACK, question))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return True


def _decode(body: bytes) -> Connection:
    family, state, _, _ = _MESSAGE.unpack_from(body)
    key = body[_MESSAGE.size : _MESSAGE.size + _ID_BYTES]
    local_port, peer_port = struct.unpack_from("!HH", key)
    cgroup = netlink.attributes(body, _ATTRIBUTES_AT).get(INET_DIAG_CGROUP_ID)
    return Connection(
        family=family,
        state=state,
        local=_address(family, key[4:20]),
        local_port=local_port,
        peer=_address(family, key[20:36]),
        peer_port=peer_port,
        cgroup_id=struct.unpack("=Q", cgroup)[0] if cgroup else -1,
        key=key,
    )


def _address(family: int, raw: bytes) -> str:
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[:4])
    if raw.startswith(_MAPPED):
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)
