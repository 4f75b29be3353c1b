"""Maps, programs and links of the kernel as small Python objects; structs of bpf/types.h as bytes.

The only module that calls the C module. Keys and values are bytes in the layout of bpf/types.h. A map may come from
another version of Seine: a value shorter or longer than the map's own is cut or filled with zeros, never overrun.
Every refusal of the kernel becomes a KernelError, one sentence for the operator. Source: bpf(2), cext/bpfcall.h.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from mesh.capture._bpf import ffi, lib


class KernelError(RuntimeError):
    """The kernel refused something; the text is a sentence for the operator."""


class MapFull(KernelError):
    """A map has no room for another entry."""


def check(result: int, doing: str) -> int:
    """The result of a C call, or its negative errno raised as a sentence."""
    if result < 0:
        raise KernelError(f"{doing}: {os.strerror(-result)}")
    return result


@cache
def possible_cpus() -> int:
    """Per-CPU maps have a value for each CPU that may ever come up, not only for those that run."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")[-1]
    return int(last.split("-")[-1]) + 1


def pack(struct: str, /, **fields: Any) -> bytes:
    """A struct of bpf/types.h as bytes."""
    return bytes(ffi.buffer(ffi.new(f"struct {struct} *", fields)))


def unpack(kind: str, value: bytes) -> Any:
    """Bytes from a map as a struct of bpf/types.h; what an older map does not have is zero."""
    struct = ffi.new(f"struct {kind} *")
    ffi.memmove(struct, value, min(len(value), ffi.sizeof(struct[0])))
    return struct


def words(address: str) -> list[int]:
    """An address as the four words of struct address: network order, IPv4 as ::ffff:a.b.c.d."""
    parsed = ip_address(address)
    packed = parsed.packed if parsed.version == 6 else bytes(10) + b"\xff\xff" + parsed.packed
    return list(ffi.unpack(ffi.cast("__u32 *", ffi.from_buffer(packed)), 4))


def text(ip: Any) -> str:
    """The four words of struct address as canonical text."""
    parsed = ip_address(bytes(ffi.buffer(ip, 16)))
    mapped = getattr(parsed, "ipv4_mapped", None)
    return str(mapped or parsed)


def pack_address(address: str, port: int) -> bytes:
    return pack("address", ip=words(address), port=port)


class Map:
    """One map of the kernel; owns its descriptor."""

    def __init__(self, name: str, fd: int) -> None:
        self.name, self.fd = name, fd
        info = ffi.new("struct map_info *")
        check(lib.bpf_map_info(fd, info), f"cannot ask for the size of map {name}")
        self.shape = (info.type, info.key_size, info.value_size, info.max_entries, info.flags)
        self.key_size, self.max_entries = int(info.key_size), int(info.max_entries)
        self.per_cpu = info.type == lib.BPF_MAP_TYPE_PERCPU_ARRAY
        self.width = (info.value_size + 7) // 8 * 8 if self.per_cpu else info.value_size
        self.value_size = self.width * (possible_cpus() if self.per_cpu else 1)

    def read(self, key: bytes) -> bytes | None:
        value = ffi.new("char[]", self.value_size)
        result = lib.bpf_map_read(self.fd, fit(key, self.key_size), value)
        if result == -errno.ENOENT:
            return None
        check(result, f"cannot read map {self.name}")
        return bytes(ffi.buffer(value))

    def write(self, key: bytes, value: bytes) -> None:
        result = lib.bpf_map_write(self.fd, fit(key, self.key_size), fit(value, self.value_size), 0)
        if result == -errno.E2BIG:
            raise MapFull(f"map {self.name} is full ({self.max_entries} entries)")
        check(result, f"cannot write map {self.name}")

    def remove(self, key: bytes) -> None:
        """Removes an entry; no matter if there is none."""
        result = lib.bpf_map_remove(self.fd, fit(key, self.key_size))
        if result not in (-errno.ENOENT, -errno.EINVAL):  # EINVAL: an empty cell of a sockmap
            check(result, f"cannot remove from map {self.name}")

    def all_keys(self) -> list[bytes]:
        """All keys at about this moment; bounded, because a map that changes meanwhile may start over."""
        found: dict[bytes, None] = {}
        key, following = ffi.NULL, ffi.new("char[]", self.key_size)
        for _ in range(2 * self.max_entries + 1):
            if lib.bpf_map_next(self.fd, key, following) < 0:
                break
            found[bytes(ffi.buffer(following))] = None
            key = ffi.new("char[]", bytes(ffi.buffer(following)))
        return list(found)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key in self.all_keys():
            value = self.read(key)
            if value is not None:
                yield key, value

    def close(self) -> None:
        os.close(self.fd)


def fit(value: bytes, size: int) -> bytes:
    """A struct in the size that a map has for it: cut, or filled with zeros."""
    return value[:size].ljust(size, b"\0")


def index(number: int) -> bytes:
    """The key of an array."""
    return number.to_bytes(4, "little")


def number(value: bytes) -> int:
    return int.from_bytes(value, "little")


def pin(fd: int, path: Path) -> None:
    check(lib.bpf_pin(fd, os.fsencode(path)), f"cannot pin {path}")


def open_pin(path: Path) -> int | None:
    """A descriptor of a pinned object; None when nothing is pinned there."""
    result = lib.bpf_open(os.fsencode(path))
    return None if result == -errno.ENOENT else check(result, f"cannot open the pin {path}")


def mount_bpffs(path: Path) -> None:
    check(lib.bpf_mount(os.fsencode(path)), f"cannot mount a BPF file system at {path}")


def unpin_link(path: Path) -> None:
    """Detach a pinned link now, and remove its pin."""
    link = open_pin(path)
    path.unlink(missing_ok=True)
    if link is not None:
        lib.bpf_detach(link)
        os.close(link)
