"""A short run of each fuzz target of tests/fuzz, sanitized; run a target for longer by hand with its driver."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.engine.build import CEXT, ROOT, SANITIZE, clean_environment
from tests.engine.test_pure import CASES

ITERATIONS = 30_000
TARGETS = {"detect": (("detect.c",), [data for data, _ in CASES])}


@pytest.mark.parametrize("target", TARGETS)
def test_the_invariant_holds(target: str, tmp_path: Path) -> None:
    sources, seeds = TARGETS[target]
    program = tmp_path / target
    code = [ROOT / "tests/fuzz/driver.c", ROOT / f"tests/fuzz/fuzz_{target}.c", *(CEXT / source for source in sources)]
    flags = ["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", *SANITIZE, f"-I{CEXT}"]
    subprocess.run(["gcc", *flags, "-o", str(program), *map(str, code)], check=True, env=clean_environment())
    files = []
    for number, seed in enumerate(seeds):
        file = tmp_path / f"seed-{number}"
        file.write_bytes(seed)
        files.append(str(file))
    command = [str(program), str(ITERATIONS), "1", *files]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    assert run.returncode == 0, run.stderr[-3000:]
