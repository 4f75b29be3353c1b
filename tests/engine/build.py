"""Compiles the engine's C for tests: the extension with sanitizers, and its pure files as a plain library."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CEXT = ROOT / "cext"
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1")
LIBRARIES = ("-lssl", "-lcrypto", "-lnghttp2", "-lm")
PURE = ("authz.c", "balance.c", "detect.c", "normal.c", "timer.c")


def build_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_engine", CEXT / "build_engine.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def clean_environment() -> dict[str, str]:
    """Without the sanitizer's preloaded runtime, or the compiler's own leaks count."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def compile_shared(output: Path, sources: list[Path], *flags: str) -> Path:
    subprocess.run(
        ["gcc", "-shared", "-fPIC", *flags, f"-I{CEXT}", "-o", str(output), *map(str, sources), *LIBRARIES],
        check=True,
        env=clean_environment(),
    )
    return output


def sanitized(folder: Path) -> tuple[Path, Path]:
    """Engine and signer, of the same sources and flags as in use, plus ASan and UBSan."""
    script, include = build_script(), f"-I{sysconfig.get_path('include')}"

    def one(name: str, ffi: Any, sources: tuple[str, ...]) -> Path:
        generated = folder / f"{name}.c"
        ffi.emit_c_code(str(generated))
        files = [generated, *(CEXT / f"{source}.c" for source in sources)]
        return compile_shared(folder / f"{name}.so", files, *script.FLAGS, "-Werror", *SANITIZE, include)

    return one("_engine", script.ffi, script.SOURCES), one("_signer", script.signer_ffi, script.SIGNER_SOURCES)


def pure_library(folder: Path) -> Path:
    """The files that need no kernel, with tests/engine/pure.c; sanitized when the running test process is."""
    sanitize = SANITIZE if os.environ.get("SEINE_TEST_ENGINE") else ()
    flags = (*build_script().FLAGS[:-1], "-Werror", *sanitize)
    sources = [Path(__file__).with_name("pure.c"), *(CEXT / name for name in PURE)]
    return compile_shared(folder / "pure.so", sources, *flags)
