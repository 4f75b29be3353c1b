"""All engine tests again, with the engine built for AddressSanitizer (leaks too) and UndefinedBehaviorSanitizer.

The interpreter itself is not sanitized, so the runtime is preloaded. Python's own leaks are suppressed by looking at
the two innermost frames only: an allocation made by our code has none but ours there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.build import ROOT, sanitized

SUPPRESSIONS = "leak:python3\nleak:_cffi_backend\nleak:libffi\nleak:ld-linux\nleak:libcrypto\nleak:libssl\n"


def library(name: str) -> str:
    path = subprocess.run(
        ["gcc", f"-print-file-name={name}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert os.path.isabs(path), f"{name} is missing: it comes with the package gcc"
    return path


def environment(folder: Path, engine: Path, signer: Path) -> dict[str, str]:
    suppressions = folder / "suppressions"
    suppressions.write_text(SUPPRESSIONS)
    return {
        **os.environ,
        "SEINE_TEST_ENGINE": str(engine),
        "SEINE_TEST_SIGNER": str(signer),
        "LD_PRELOAD": f"{library('libasan.so')} {library('libubsan.so')}",
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": f"detect_leaks=1:malloc_context_size=2:exitcode=66:log_path={folder}/report",
        "LSAN_OPTIONS": f"suppressions={suppressions}:print_suppressions=0",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


OWN_BUILDS = "tests/engine/http1"  # makes sanitized programs of its own; a compiler in here would be judged too


@pytest.mark.timeout(1800)
def test_the_engine_is_clean_under_sanitizers(tmp_path: Path) -> None:
    if "SEINE_TEST_ENGINE" in os.environ:
        return  # this is that run
    engine, signer = sanitized(tmp_path)
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "tests/engine",
            f"--ignore={OWN_BUILDS}",
        ],
        cwd=ROOT,
        env=environment(tmp_path, engine, signer),
        capture_output=True,
        text=True,
        check=False,
    )
    reports = "".join(path.read_text()[:3000] for path in tmp_path.glob("report*"))  # pytest keeps what goes to stderr
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-5000:] + reports
