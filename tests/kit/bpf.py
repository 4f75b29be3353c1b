"""Harm to the hooks, as another program on the node could do it: detach what is pinned. Source: bpf(2), linux/bpf.h."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

SYS_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
BPF_OBJ_GET, BPF_PROG_DETACH, BPF_LINK_DETACH = 7, 9, 34
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


def detach_map(fd: int, attach: int, program: int) -> None:
    """Take the program off a sockmap or sockhash."""
    _bpf(BPF_PROG_DETACH, struct.pack("IIII", fd, program, attach, 0))
