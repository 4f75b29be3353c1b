"""Plain bpf() calls: harm to the hooks, as another program could do it, and cells of maps. Source: bpf(2)."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM = 1, 2
BPF_OBJ_GET, BPF_PROG_DETACH, BPF_PROG_GET_FD_BY_ID, BPF_PROG_QUERY, BPF_LINK_DETACH = 7, 9, 13, 16, 34
BPF_SK_MSG_VERDICT = 7
_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes.ljust(64, b"\0"), 64)
    result = int(_libc.syscall(SYS_BPF, command, buffer, 64))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}")
    return result


def detach(pin: Path) -> None:
    """Detach the link pinned there; the pin stays and keeps a link that does nothing."""
    path = ctypes.create_string_buffer(str(pin).encode())
    fd = _bpf(BPF_OBJ_GET, struct.pack("QII", ctypes.addressof(path), 0, 0))
    try:
        _bpf(BPF_LINK_DETACH, struct.pack("I", fd))
    finally:
        os.close(fd)


def detach_shortcut(pin: Path) -> None:
    """Take the program off the sockhash pinned there."""
    path = ctypes.create_string_buffer(str(pin).encode())
    sockets = _bpf(BPF_OBJ_GET, struct.pack("QII", ctypes.addressof(path), 0, 0))
    number = (ctypes.c_uint32 * 1)()
    _bpf(BPF_PROG_QUERY, struct.pack("IIIIQI", sockets, BPF_SK_MSG_VERDICT, 0, 0, ctypes.addressof(number), 1))
    program = _bpf(BPF_PROG_GET_FD_BY_ID, struct.pack("I", number[0]))
    try:
        _bpf(BPF_PROG_DETACH, struct.pack("III", sockets, program, BPF_SK_MSG_VERDICT))
    finally:
        os.close(program)
        os.close(sockets)


def read_u64(array: int, index: int) -> int:
    """A cell of an array map of 64-bit numbers."""
    key, value = ctypes.c_uint32(index), ctypes.c_uint64()
    _bpf(BPF_MAP_LOOKUP_ELEM, struct.pack("IxxxxQQQ", array, ctypes.addressof(key), ctypes.addressof(value), 0))
    return value.value


def write_u64(array: int, index: int, number: int) -> None:
    key, value = ctypes.c_uint32(index), ctypes.c_uint64(number)
    _bpf(BPF_MAP_UPDATE_ELEM, struct.pack("IxxxxQQQ", array, ctypes.addressof(key), ctypes.addressof(value), 0))
