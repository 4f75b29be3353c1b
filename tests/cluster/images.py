"""Images of single programs, for what every cluster needs and for most tests; see deploy/image for Seine's own."""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.image import archive

REGISTRY = "seine.test"  # no such host: whoever tries to pull notices
PAUSE = f"{REGISTRY}/pause:1"
TOOLS = f"{REGISTRY}/tools:1"
COREDNS = f"{REGISTRY}/coredns:1"
FOLDERS = ("bin", "dev", "etc", "proc", "run", "sys", "tmp")  # a runtime mounts over some of them


def pack(out: Path, name: str, entrypoint: Sequence[str], files: Mapping[str, Path]) -> Path:
    """An image that holds `files` (path in the image: file here), all executable."""
    layer = out.with_suffix(".layer")
    with tarfile.open(layer, mode="w") as tar:
        for folder in FOLDERS:
            archive.add_folder(tar, folder, 0o1777 if folder == "tmp" else 0o755)
        for path, source in files.items():
            archive.add(tar, path.lstrip("/"), source.read_bytes(), 0o755)
    made = archive.pack(out, [name], {"Entrypoint": list(entrypoint)}, [layer])
    layer.unlink()
    return made


def programs(*paths: str) -> dict[str, Path]:
    """Programs of this machine for `pack`, each with the libraries that it is linked with."""
    found = {path: Path(path) for path in paths}
    for path in paths:
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        found |= {library: Path(library) for library in re.findall(r"(/\S+) \(0x", listed)}
    return found
