"""The plugin as it is shipped, and with sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "cext/cni").glob("*.c"))
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g")


def sanitized(folder: Path) -> Path:
    out = folder / "seine-cni"
    command = ["gcc", "-std=gnu11", *SANITIZE, "-o", str(out), *map(str, SOURCES)]
    subprocess.run(command, check=True)
    return out
