"""The hooks: which function goes where, and how bytecode becomes a loaded program.

Bytecode comes from the compiling child with the child's map descriptors in it; `load` puts ours there. The
sk_lookup program is loaded once per pod with the pod's slot in place of a mark, because it cannot learn its
namespace (a compile is 400 ms, a patched load 0.25 ms). Source: linux/bpf.h, struct bpf_insn.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from mesh.capture._bpf import ffi, lib
from mesh.capture.objects import KernelError, check

LOAD_64, MAP_DESCRIPTOR = 0x18, 1  # BPF_LD | BPF_IMM | BPF_DW; BPF_PSEUDO_MAP_FD in the upper half of byte 1
SLOT_MARK = 0x5E1E0510  # bpf/sk_lookup.c
INSTRUCTION = struct.Struct("<BBhi")
LOG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Hook:
    """A BPF function and its place. `name` is the C function's."""

    name: str
    program: int
    attach: int


ROOT_HOOKS = (
    Hook("connect4", lib.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, lib.BPF_CGROUP_INET4_CONNECT),
    Hook("connect6", lib.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, lib.BPF_CGROUP_INET6_CONNECT),
    Hook("getpeername4", lib.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, lib.BPF_CGROUP_INET4_GETPEERNAME),
    Hook("getpeername6", lib.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, lib.BPF_CGROUP_INET6_GETPEERNAME),
    Hook("getsockname4", lib.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, lib.BPF_CGROUP_INET4_GETSOCKNAME),
    Hook("getsockname6", lib.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, lib.BPF_CGROUP_INET6_GETSOCKNAME),
    Hook("sockops", lib.BPF_PROG_TYPE_SOCK_OPS, lib.BPF_CGROUP_SOCK_OPS),
)
FIXED_HOOKS = (
    Hook("sock_create", lib.BPF_PROG_TYPE_CGROUP_SOCK, lib.BPF_CGROUP_INET_SOCK_CREATE),
    Hook("set_sockopt", lib.BPF_PROG_TYPE_CGROUP_SOCKOPT, lib.BPF_CGROUP_SETSOCKOPT),
)
POD_HOOK = Hook("sk_lookup", lib.BPF_PROG_TYPE_SK_LOOKUP, lib.BPF_SK_LOOKUP)
MAP_HOOK = Hook("shortcut", lib.BPF_PROG_TYPE_SK_MSG, lib.BPF_SK_MSG_VERDICT)


def relocate(code: bytes, descriptors: Mapping[int, int]) -> bytes:
    """Bytecode with each map descriptor of the compiling process replaced by ours."""
    out = bytearray(code)
    for offset in range(0, len(code), INSTRUCTION.size):
        operation, registers, _, immediate = INSTRUCTION.unpack_from(code, offset)
        if operation == LOAD_64 and registers >> 4 == MAP_DESCRIPTOR:
            struct.pack_into("<i", out, offset + 4, descriptors[immediate])
    return bytes(out)


def patch_slot(code: bytes, slot: int) -> bytes:
    """sk_lookup bytecode for one pod; the mark must be there exactly once."""
    out, found = bytearray(code), 0
    for offset in range(0, len(code), INSTRUCTION.size):
        operation, registers, _, immediate = INSTRUCTION.unpack_from(code, offset)
        if operation == LOAD_64 and registers >> 4 == 0 and immediate == SLOT_MARK:
            struct.pack_into("<i", out, offset + 4, slot)
            found += 1
    if found != 1:
        raise KernelError(f"the sk_lookup program has its slot mark {found} times instead of once")
    return bytes(out)


def load(hook: Hook, code: bytes) -> int:
    """A loaded program's descriptor; KernelError with the verifier's last words."""
    log = ffi.new("char[]", LOG_BYTES)
    count = len(code) // INSTRUCTION.size
    result = lib.bpf_load(hook.program, hook.attach, code, count, f"seine_{hook.name}"[:15].encode(), log, LOG_BYTES)
    if result < 0:
        words = ffi.string(log).decode(errors="replace").strip().splitlines()[-3:]
        check(result, f"the kernel refused the program {hook.name} ({' / '.join(words)})")
    return int(result)


def program_id(fd: int) -> int:
    return check(lib.bpf_program_id(fd), "cannot ask for a program's id")


def effective(cgroup: int, hook: Hook) -> list[int]:
    """Ids of the programs that run for a cgroup's processes at a hook, inherited ones too."""
    ids = ffi.new("unsigned int[]", 256)  # the kernel allows 64 per cgroup and hook
    count = check(lib.bpf_effective(cgroup, hook.attach, ids, 256), "cannot list the programs of a cgroup")
    return list(ids[0:count])
