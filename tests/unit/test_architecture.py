"""The rules of the tree that import-linter, mypy and ruff cannot express: shape, names, licences, the map.

The rest is in pyproject.toml: layers and forbidden imports under [tool.importlinter], banned calls under [tool.ruff].
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_LINES_MAX = 70  # what fits on one screen; the aim is 10
FOLDERS = ("mesh", "tests", "cext", "deploy")
DECISIONS = ("detect.py", "route", "balance", "control")  # pure, hence each with a unit test of its own
BPF_LICENCE = "SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0"
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv"}
ENVIRONMENT_READERS = {"mesh/config.py"}
IMPORTED_AS = {"pyyaml": "yaml"}  # where a distribution's name is not its module's
FROM_DEBIAN = {"bcc"}  # python3-bpfcc
STAND_INS = ROOT / "bpf/kheaders"  # of kernel headers: a line or none, nothing to license

PYTHON = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MESH = [path for path in PYTHON if path.is_relative_to(ROOT / "mesh")]
C = sorted(path for folder in ("bpf", "cext") for path in (ROOT / folder).rglob("*.[ch]"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def python_functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def c_functions(path: Path) -> Iterator[tuple[str, int]]:
    """A definition begins in column 0 with a name and "(", no ";" at the line's end, and ends with "}" in column 0."""
    lines = path.read_text().splitlines()
    start = None
    for number, line in enumerate(lines):
        if re.match(r"[A-Za-z_].*\(", line) and not line.rstrip().endswith((";", "\\")):
            start = number
        elif line.startswith("}") and start is not None:
            yield f"{name(path)}:{start + 1}", number - start + 1
            start = None


@pytest.mark.parametrize("path", PYTHON, ids=name)
def test_python_function_fits_on_a_screen(path: Path) -> None:
    assert [found for found in python_functions(path) if found[1] > FUNCTION_LINES_MAX] == []


@pytest.mark.parametrize("path", C, ids=name)
def test_c_function_fits_on_a_screen(path: Path) -> None:
    assert [found for found in c_functions(path) if found[1] > FUNCTION_LINES_MAX] == []


def test_c_functions_are_found() -> None:
    """Without this the rule above could hold because nothing is recognised."""
    sources = [path for path in C if path.suffix == ".c"]
    assert sources
    assert [name(path) for path in sources if not list(c_functions(path))] == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests/unit").rglob("test_*.py")), ids=name)
def test_unit_test_mirrors_a_module(path: Path) -> None:
    if path.name == Path(__file__).name:
        return  # of the whole tree
    folder = ROOT / "mesh" / path.parent.relative_to(ROOT / "tests/unit")
    stem = path.stem.removeprefix("test_")
    assert (folder / f"{stem}.py").exists() or (folder / stem / "__init__.py").exists(), (
        f"no mesh module for {name(path)}"
    )


def decision_modules() -> list[Path]:
    top = [ROOT / "mesh" / entry for entry in DECISIONS]
    found = [module for entry in top for module in ([entry] if entry.suffix else sorted(entry.rglob("*.py")))]
    return [module for module in found if module.name != "__init__.py" and module.exists()]


@pytest.mark.parametrize("path", decision_modules(), ids=name)
def test_decision_has_a_unit_test(path: Path) -> None:
    inside = path.relative_to(ROOT / "mesh")
    assert (ROOT / "tests/unit" / inside.parent / f"test_{inside.name}").exists()


def environment_reads(path: Path) -> Iterator[int]:
    """Lines. Setting a variable for a library in a child (`os.environ[NAME] = ...`) is none."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    stores = {id(node.value) for node in nodes if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and id(node) not in stores:
            yield node.lineno


@pytest.mark.parametrize("path", MESH, ids=name)
def test_environment_is_read_in_config_only(path: Path) -> None:
    assert not list(environment_reads(path)) or name(path) in ENVIRONMENT_READERS


def bpf_sources() -> list[Path]:
    return [path for path in C if path.is_relative_to(ROOT / "bpf") and not path.is_relative_to(STAND_INS)]


@pytest.mark.parametrize("path", bpf_sources(), ids=name)
def test_bpf_source_states_both_licences(path: Path) -> None:
    assert BPF_LICENCE in path.read_text().splitlines()[0], "bcc loads it as GPL; the rest of the tree is Apache-2.0"


ROOMS = [path for path in MESH if path.name == "__init__.py" and len(list(path.parent.glob("*.py"))) > 1]
OF_COMMANDS = "mesh/cli/__init__.py"  # one file per command: `seine --help` is its map


@pytest.mark.parametrize("path", [path for path in ROOMS if name(path) != OF_COMMANDS], ids=name)
def test_map_of_a_package_is_true(path: Path) -> None:
    """Its docstring names each module and package in it, and nothing that is not there."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    said = set(re.findall(r"^ *(?:\d )?(\w+) {2,}\S", text, re.MULTILINE))
    there = {each.stem for each in path.parent.iterdir() if each.suffix == ".py" or list(each.glob("*.py"))}
    assert said == there - {"__init__"}


def imports(path: Path) -> Iterator[str]:
    """Top-level names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def declared(*extras: str) -> set[str]:
    """Names of the modules that come with Seine's own requirements and with those of some extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    names = [re.split(r"[^\w-]", line)[0].lower() for line in lines]
    return {IMPORTED_AS.get(each, each.replace("-", "_")) for each in names}


def strangers(paths: list[Path], known: set[str]) -> list[str]:
    known = known | FROM_DEBIAN | set(sys.stdlib_module_names) | {"mesh"}
    return [f"{name(path)}: {module}" for path in paths for module in imports(path) if module not in known]


def test_what_is_imported_is_declared() -> None:
    """What merely came along with something else would be missing one day, and only in somebody's installation."""
    quic = [path for path in MESH if path.is_relative_to(ROOT / "mesh/forward/quic")]
    cluster = [path for path in MESH if path.is_relative_to(ROOT / "mesh/kube/api")]
    assert strangers([path for path in MESH if path not in (*quic, *cluster)], declared()) == []
    assert strangers(quic, declared("quic")) == []
    assert strangers(cluster, declared("kubernetes")) == []


def test_agent_and_workers_do_not_pay_for_extras() -> None:
    """What they need of them (messages, the worker's and the agent's side) brings neither aioquic nor kubernetes."""
    parts = "mesh.agent, mesh.worker, mesh.forward.quic.caller, mesh.forward.quic.messages, mesh.kube.api.source, sys"
    code = f"import {parts}; print([name for name in ('aioquic', 'pylsqpack', 'kubernetes') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_what_tests_and_builds_import_is_declared() -> None:
    """What somebody had installed by hand is missing on the next machine."""
    others = [path for path in PYTHON if path not in MESH]
    assert strangers(others, declared("test", "bench", "quic") | {"setuptools", "tests", "deploy", "cext"}) == []


PACKAGES = {  # of Debian: who brings a program that tests start
    "curl": "curl",
    "gcc": "gcc",
    "h2load": "nghttp2-client",
    "nginx": "nginx",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "shellcheck": "shellcheck",
    "wrk": "wrk",
}
ESSENTIAL = {"cc", "sh", "sleep", "env", "ldd"}  # of every Debian, or of gcc
STARTS = re.compile(r'(?:run|popen|Popen|check_output)\(\s*\[\s*"([a-z0-9-]+)"|(?:argv|command) = \[\s*"([a-z0-9-]+)"')
OWN_TIERS = ("tests/bench", "tests/cluster", "deploy/image")  # what these need has a tier of its own


def test_programs_that_tests_start_are_installed_by_setup() -> None:
    """What is on the machine of whoever wrote a test is not on a bare one."""
    setup = (ROOT / "dev").read_text()
    installed = set(re.findall(r"^    ([a-z0-9-]+(?: [a-z0-9-]+)*) *#", setup.split("packages_bench")[0], re.MULTILINE))
    installed = {package for line in installed for package in line.split()}
    others = [path for path in PYTHON if path not in MESH and not name(path).startswith(OWN_TIERS)]
    started = {(name(path), "".join(found)) for path in others for found in STARTS.findall(path.read_text())}
    assert {program for _, program in started} >= {"curl", "nginx", "h2load"}, "else nothing is recognised"
    assert [each for each in started if each[1] not in ESSENTIAL and PACKAGES.get(each[1]) not in installed] == []


SCRIPTS = ("dev", ".ci/run", "deploy/kind/up.sh")


def test_shellcheck_and_hadolint_find_nothing() -> None:
    """Also in what nobody here can run."""
    heads = [path for path in (ROOT / "deploy").rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!")]
    shell = {name(path) for path in heads if b"sh" in path.read_bytes().splitlines()[0]}
    assert shell <= set(SCRIPTS)
    judged = subprocess.run(["shellcheck", *SCRIPTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout
    hadolint = [str(Path(sys.executable).with_name("hadolint")), "deploy/Dockerfile"]
    judged = subprocess.run(hadolint, cwd=ROOT, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout


def test_every_licence_text_is_in_the_tree() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "GNU GENERAL PUBLIC LICENSE" in (ROOT / "LICENSES/GPL-2.0-only.txt").read_text()
