"""Where things are kept: the BPF file system, the cgroup2 root, and the layout of a node's pins.

    <bpffs>/seine/<node>/links/<hook>, sk_lookup-<slot>
    <bpffs>/seine/<node>/<generation>/<map>-<layout>

A generation is a hash of types.h and maps.h, a layout one of a single map's line and of the structs it is made of:
a map whose layout did not change is carried from one generation to the next as it is. Comments do not count.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from mesh.capture.objects import KernelError, mount_bpffs, unpin_link

BPFFS = Path("/sys/fs/bpf")
LINKS = "links"
DECLARATION = re.compile(r"^BPF_(\w+)\((.*?)\);", re.MULTILINE | re.DOTALL)
STRUCT = re.compile(r"^struct (\w+) \{.*?^\};", re.MULTILINE | re.DOTALL)


def mounts(kind: str) -> list[Path]:
    """Mount points of one file system type, the most recent last."""
    rows = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(_unescaped(row[1])) for row in rows if row[2] == kind]


def _unescaped(path: str) -> str:
    """The kernel writes a space as \\040."""
    return path.encode().decode("unicode_escape")


def pin_root() -> Path:
    """The node's BPF file system; mounted at /sys/fs/bpf when there is none, under a lock so that no two stack."""
    lock = os.open(BPFFS.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if BPFFS not in mounts("bpf"):
            mount_bpffs(BPFFS)
    finally:
        os.close(lock)
    return BPFFS


def cgroup2_root(mountinfo: str = "") -> Path:
    """Where the root of cgroup2 is mounted, by the text of /proc/self/mountinfo.

    On hybrid hosts that is not /sys/fs/cgroup itself. A container sees only its own part of the tree there, and the
    root only where it was given the host's (a hostPath volume).
    """
    rows = [line.split() for line in (mountinfo or Path("/proc/self/mountinfo").read_text()).splitlines()]
    found = [(row[3], Path(_unescaped(row[4]))) for row in rows if row[row.index("-") + 1] == "cgroup2"]
    for root, place in found:
        if root == "/":
            return place
    if found:
        raise KernelError(f"{found[0][1]} is only a part of cgroup2: a container needs the host's (a hostPath volume)")
    raise KernelError("no cgroup2 file system is mounted: Seine's hooks are attached to its root")


def node_pins(pins: Path, node: str) -> Path:
    return pins / "seine" / node


def fixed_cgroup(cgroup_root: Path, node: str) -> Path:
    """Sockets made by a process in here are Seine's own."""
    return cgroup_root / f"seine-{node}"


def _bare(source: str) -> str:
    """C text without comments and needless space."""
    return re.sub(r"[ \t]+", " ", re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL))


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=6).hexdigest()


def generation(types: str, maps: str) -> str:
    return _digest(_bare(types), _bare(maps))


def _meaning(declaration: str, structs: dict[str, str]) -> list[str]:
    """A declaration and, depth first, every struct that it is made of."""
    head, _, body = declaration.partition("{") if declaration.startswith("struct") else ("", "", declaration)
    inner = [part for name in re.findall(r"struct (\w+)", body) for part in _meaning(structs[name], structs)]
    return [head + body, *inner]


def layouts(types: str, maps: str) -> dict[str, str]:
    """Map name -> hash of all that decides what its bytes mean."""
    structs = {match[1]: match[0] for match in STRUCT.finditer(_bare(types))}

    found = {}
    for match in DECLARATION.finditer(_bare(maps)):
        arguments = [argument.strip() for argument in match[2].split(",")]
        name = arguments[0] if match[1] in ("SK_STORAGE", "SOCKHASH") else arguments[3]
        found[name] = _digest(*_meaning(match[0], structs))
    return found


def remove_tree(directory: Path) -> None:
    """Unpins everything below a directory."""
    shutil.rmtree(directory)


def clean(node: str, pins: Path, cgroup_root: Path) -> list[str]:
    """Detach and remove everything of a node that nobody uses any more; a sentence for each thing removed."""
    removed = []
    directory = node_pins(pins, node)
    if directory.exists():
        for path in sorted((directory / LINKS).glob("*")):
            unpin_link(path)
            removed.append(f"detached {path.name}")
        remove_tree(directory)
        removed.append(f"removed {directory}")
        with suppress(OSError):  # other nodes are there
            directory.parent.rmdir()
    cgroup = fixed_cgroup(cgroup_root, node)
    if cgroup.exists():
        try:
            cgroup.rmdir()
            removed.append(f"removed {cgroup}")
        except OSError as reason:
            raise KernelError(f"cannot remove {cgroup}: {reason.strerror} (processes in it?)") from reason
    return removed
