"""The few netlink dumps that the agent needs, as bytes: one request, its answers, the kernel's error as OSError.

Every agent needs these; pyroute2 costs 12 MiB resident, so only agents that keep routes load it (mesh.node.routes), and
its sock_diag socket does not read error messages, which SOCK_DESTROY answers with.
Invariant: every request ends with NLMSG_DONE or NLMSG_ERROR, or the receive timeout raises.
Source: netlink(7), include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 1
NLM_F_ACK = 4
NLM_F_DUMP = 0x300

HEAD = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # length, type
NESTED_OR_BYTE_ORDER = 0xC000  # flags in an attribute's type
RECEIVE_BYTES = 1 << 16  # the kernel fills at most 32 KiB of a dump at once
TIMEOUT_S = 5.0  # the kernel answers within the call; only a kernel bug would be slower


def open_socket(protocol: int) -> socket.socket:
    """A netlink socket of the calling thread's network namespace, for life."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    sock.settimeout(TIMEOUT_S)
    return sock


def request(sock: socket.socket, kind: int, flags: int, payload: bytes) -> Iterator[bytes]:
    """The payloads of the answers to one request. With NLM_F_ACK, success is no answers. Raises OSError."""
    sock.send(HEAD.pack(HEAD.size + len(payload), kind, NLM_F_REQUEST | flags, 1, 0) + payload)
    while True:
        data = sock.recv(RECEIVE_BYTES)
        at = 0
        while at < len(data):
            length, kind, _, _, _ = HEAD.unpack_from(data, at)
            body = data[at + HEAD.size : at + length]
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                (status,) = struct.unpack_from("=i", body)
                if status:
                    raise OSError(-status, os.strerror(-status))
                return
            yield body
            at += length + 3 & ~3


def attributes(body: bytes, at: int) -> dict[int, bytes]:
    """The attributes that begin at offset `at` of an answer: type -> value."""
    found: dict[int, bytes] = {}
    while at + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size:
            break
        found[kind & ~NESTED_OR_BYTE_ORDER] = body[at + ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    return found
