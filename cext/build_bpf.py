"""Builds mesh.capture._bpf: bpf(2) for Python, and the structs that the hooks share with it.

The declarations are bpf/types.h and cext/bpfcall.h themselves, so that no struct is written twice. Run as a
program it builds in place; setup.py names `ffi`. Source of the method: cffi, "API mode".
"""

from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent

# The exact types behind the kernel's names: uint64_t would be another type than __u64 to a strict compiler.
INTEGERS = """
typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
"""

# From linux/bpf.h, by name; API mode asks the compiler for the numbers.
KERNEL = "\n".join(
    f"static const unsigned int {name};"
    for name in (
        *("BPF_PROG_TYPE_CGROUP_SOCK", "BPF_PROG_TYPE_CGROUP_SOCK_ADDR", "BPF_PROG_TYPE_CGROUP_SOCKOPT"),
        *("BPF_PROG_TYPE_SOCK_OPS", "BPF_PROG_TYPE_SK_LOOKUP", "BPF_PROG_TYPE_SK_MSG", "BPF_SK_MSG_VERDICT"),
        *("BPF_CGROUP_INET_SOCK_CREATE", "BPF_CGROUP_SOCK_OPS", "BPF_CGROUP_SETSOCKOPT", "BPF_SK_LOOKUP"),
        *("BPF_CGROUP_INET4_CONNECT", "BPF_CGROUP_INET6_CONNECT"),
        *("BPF_CGROUP_INET4_GETPEERNAME", "BPF_CGROUP_INET6_GETPEERNAME"),
        *("BPF_CGROUP_INET4_GETSOCKNAME", "BPF_CGROUP_INET6_GETSOCKNAME"),
        *("BPF_MAP_TYPE_PERCPU_ARRAY", "BPF_MAP_TYPE_ARRAY", "BPF_MAP_TYPE_HASH"),
    )
)

ffi = FFI()
ffi.cdef(INTEGERS + KERNEL + (ROOT / "bpf/types.h").read_text() + (ROOT / "cext/bpfcall.h").read_text())
ffi.set_source(
    "mesh.capture._bpf",
    '#include <linux/bpf.h>\n#include "bpf/types.h"\n#include "cext/bpfcall.h"\n',
    sources=["cext/bpfcall.c"],
    include_dirs=["."],
    depends=["bpf/types.h", "cext/bpfcall.h"],
    extra_compile_args=["-O2", "-Wall", "-Werror=incompatible-pointer-types"],
)

if __name__ == "__main__":
    import os

    os.chdir(ROOT)
    ffi.compile(tmpdir=".", verbose=False)
