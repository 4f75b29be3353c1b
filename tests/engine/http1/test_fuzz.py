"""tests/fuzz/http1_fuzz.c, started from the vectors: a fixed list of mutants, and libFuzzer if clang has it.

A crash of libFuzzer's is shown with the input in base64; make it a vector.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.engine.http1.judge import BUILDS, FLAGS, METHODS, PARTS, ROOT, SOURCES, Message, cases

FUZZ = ROOT / "tests/fuzz"
MUTANTS = 300_000  # 3 s
LIBFUZZER_SECONDS = 20
SEED_BYTES_MAX = 2000  # what is too long has vectors of its own


def seed_of(message: Message) -> bytes:
    return bytes([PARTS[message.part], METHODS[message.method] | (0x80 if message.upgrade else 0)]) + message.data


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    folder = tmp_path / "seeds"
    folder.mkdir()
    for number, case in enumerate(cases()):
        if len(case.message.data) <= SEED_BYTES_MAX:
            (folder / f"{number:04}").write_bytes(seed_of(case.message))
    return folder


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]


def has_libfuzzer(folder: Path) -> bool:
    source = folder / "probe.c"
    source.write_text("int LLVMFuzzerTestOneInput(const char *i, unsigned long n) { return 0 * (i && n); }\n")
    probe = ("clang", "-fsanitize=fuzzer,address", "-o", folder / "probe", source)
    return bool(shutil.which("clang")) and subprocess.run(probe, capture_output=True, check=False).returncode == 0


def test_fixed_mutants_keep_the_invariant(tmp_path: Path, seeds: Path) -> None:
    target, driver = FUZZ / "http1_fuzz.c", FUZZ / "http1_drive.c"
    run("gcc", *FLAGS, *BUILDS["sanitized"], "-o", tmp_path / "drive", target, driver, *SOURCES)
    run(tmp_path / "drive", str(MUTANTS), *sorted(seeds.iterdir()))


def test_libfuzzer_finds_nothing(tmp_path: Path, seeds: Path) -> None:
    if not has_libfuzzer(tmp_path):
        return  # the fixed mutants above stand in for it
    flags = ("-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
    run("clang", *FLAGS, *flags, "-o", tmp_path / "fuzz", FUZZ / "http1_fuzz.c", *SOURCES)
    (tmp_path / "found").mkdir()
    limits = (f"-max_total_time={LIBFUZZER_SECONDS}", "-max_len=1024", "-timeout=10", "-verbosity=0")
    places = (f"-dict={FUZZ / 'http1.dict'}", f"-artifact_prefix={tmp_path}/")
    run(tmp_path / "fuzz", *limits, *places, tmp_path / "found", seeds)
