"""bpf/*.c -> bytecode and fresh maps, in a child process that alone imports bcc and exits.

Importing bcc costs 64 MiB and compiling more, which the agent shall not carry. The child hands back its map
descriptors (SCM_RIGHTS) and the bytecode in which they are numbers of its own (`programs.relocate`). bcc rewrites map
calls only in the main source text, so all files are joined into one. `python -m mesh.capture.compile SOCKET SOURCE`.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from mesh.capture.objects import KernelError
from mesh.capture.pins import layouts
from mesh.capture.programs import FIXED_HOOKS, MAP_HOOK, POD_HOOK, ROOT_HOOKS

COMPILE_SECONDS_MAX = 60  # 0.7 s on an idle core; a node that boots is not idle
HEADERS = ("types.h", "maps.h", "common.h")
MAPS_MAX = 64  # descriptors in one message; SCM_MAX_FD is 253


class Compiled(msgspec.Struct):
    """What the child hands back. `maps`: name -> (child's number, our descriptor)."""

    maps: dict[str, tuple[int, int]]
    code: dict[str, bytes]


class _Answer(msgspec.Struct):
    maps: dict[str, int]
    code: dict[str, bytes]
    error: str = ""


def joined(source: Path) -> str:
    """One translation unit: the headers, then a hook each, with #line so that messages name the file."""
    names = [*HEADERS, *sorted(path.name for path in source.glob("*.c"))]
    parts = ["#include <linux/in.h>", "#include <linux/in6.h>"]
    for name in names:
        body = re.sub(r'^#include ".*$', "", (source / name).read_text(), flags=re.MULTILINE)
        parts += [f'#line 1 "{name}"', body]
    return "\n".join(parts)


def compiled(source: Path) -> Compiled:
    """Compile in a child; blocks for about 0.7 s. The caller owns the descriptors."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-c", f"from {__name__} import main; main()", str(theirs.fileno()), str(source)]
    with ours, subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE) as child:
        theirs.close()
        ours.settimeout(COMPILE_SECONDS_MAX)
        try:
            answer, descriptors = _receive(ours)
            child.communicate(timeout=COMPILE_SECONDS_MAX)
        except (OSError, msgspec.DecodeError, subprocess.TimeoutExpired) as reason:
            child.kill()
            said = child.communicate()[1].decode(errors="replace").strip().splitlines()[-5:]
            raise KernelError(f"compiling the BPF programs failed: {' / '.join(said) or reason}") from reason
    if answer.error:
        raise KernelError(f"compiling the BPF programs failed: {answer.error}")
    if len(descriptors) != len(answer.maps):  # the kernel drops what finds no free one
        for fd in descriptors:
            os.close(fd)
        raise KernelError("the BPF maps cannot be taken over: no free file descriptors (limit RLIMIT_NOFILE)")
    numbers = zip(answer.maps.values(), descriptors, strict=True)
    return Compiled(maps=dict(zip(answer.maps, numbers, strict=True)), code=answer.code)


def _receive(ours: socket.socket) -> tuple[_Answer, list[int]]:
    first, descriptors, _, _ = socket.recv_fds(ours, 1, MAPS_MAX)
    parts = [ours.recv(1 << 16)] if first else []
    while parts and parts[-1]:
        parts.append(ours.recv(1 << 16))
    return msgspec.msgpack.decode(b"".join(parts), type=_Answer), descriptors


def _compile(source: Path) -> _Answer:
    """In the child only: everything that touches bcc."""
    os.environ["BCC_KERNEL_SOURCE"] = str(source / "kheaders")  # bcc's C++ side reads it with getenv at import
    try:
        import bcc
    except ImportError as missing:
        return _Answer({}, {}, f"bcc is missing ({missing}): install the package python3-bpfcc")
    system = ("-isystem", "/usr/include", "-isystem", f"/usr/include/{os.uname().machine}-linux-gnu")
    try:
        module: Any = bcc.BPF(text=joined(source), cflags=["-w", *system])
    except Exception as refused:  # noqa: BLE001 - bcc raises nothing narrower; the reason is on stderr
        return _Answer({}, {}, f"{refused}; see the compiler's messages above")
    names = layouts((source / "types.h").read_text(), (source / "maps.h").read_text())
    hooks = (*ROOT_HOOKS, *FIXED_HOOKS, POD_HOOK, MAP_HOOK)
    maps = {name: int(bcc.lib.bpf_table_fd(module.module, name.encode())) for name in names}
    return _Answer(maps, {hook.name: bytes(module.dump_func(hook.name.encode())) for hook in hooks})


def main() -> None:
    descriptor, source = sys.argv[1:]
    with socket.socket(fileno=int(descriptor)) as parent:
        answer = _compile(Path(source))
        socket.send_fds(parent, [b"!"], list(answer.maps.values()))
        parent.sendall(msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
