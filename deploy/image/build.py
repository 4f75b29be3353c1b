"""The container image, made without Docker: what deploy/Dockerfile makes, for machines that have none.

    python -m deploy.image.build OUT.tar      # as root; then: ctr -n k8s.io images import OUT.tar

Three layers, each cached under a digest of what it is made from: the distribution (packages.txt, by mmdebstrap, of this
machine's own release, for whose Python the C extensions are compiled), what Seine requires from PyPI in the versions
that the tests ran with, and Seine's own wheel. Pushing it anywhere is not done here.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

from deploy.image import archive
from mesh.install import Values

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = Path(__file__).with_name("packages.txt")
CACHE = Path("/var/cache/seine")
NAME = "seine.test/seine:dev"
NAMES = (NAME, Values().image)  # the second is what `seine install` names when nothing else is said
EXTRAS = ("quic",)  # optional dependencies that the image has; deploy/Dockerfile names them too
UNWANTED = ("doc", "info", "locale", "man")  # below /usr/share
SITE = f"usr/local/lib/python{sys.version_info.major}.{sys.version_info.minor}/dist-packages"
COMMAND = Path(__file__).with_name("seine")
SOURCES = (
    "mesh",
    "cext",
    "bpf",
    "deploy/crds",
    "LICENSES",
    "setup.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)  # of the wheel
CONFIG = {"Entrypoint": ["seine"], "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "PYTHONUNBUFFERED=1"]}


def build(out: Path) -> Path:
    """The archive, from layers in the cache or made now."""
    return archive.pack(out, NAMES, CONFIG, [distribution(), requirements(), seine()])


def distribution() -> Path:
    packages, release = PACKAGES.read_text().split(), platform.freedesktop_os_release()["VERSION_CODENAME"]
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=essential", f"--include={','.join(packages)}"]
    command += ["--skip=output/dev", *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNWANTED)]
    return _layer(
        "distribution",
        [*command, release, platform.machine()],
        lambda layer: _run([*command, release, str(layer)]),
    )


def requirements() -> Path:
    """Everything that Seine requires, in the versions of this environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    freeze = [sys.executable, "-m", "pip", "freeze", "--local", "--exclude-editable"]
    versions = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
    return _layer(
        "requirements",
        [SITE, *wanted, versions],
        lambda layer: _tar(layer, lambda tree: _install_requirements(wanted, versions, tree / SITE)),
    )


def seine() -> Path:
    names = subprocess.run(["git", "ls-files", *SOURCES], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [path for name in sorted(names.splitlines()) if (path := ROOT / name).is_file()]
    contents = [f"{path.relative_to(ROOT)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return _layer("seine", [SITE, *contents], lambda layer: _tar(layer, lambda tree: _install_seine(files, tree)))


def _install_seine(files: list[Path], tree: Path) -> None:
    """Built from a copy, for builds leave their traces beside the sources."""
    with tempfile.TemporaryDirectory(prefix="seine-image-") as directory:
        copy = Path(directory) / "source"
        for path in files:
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
        _install(["--no-deps", "--no-build-isolation", str(copy)], tree / SITE)
    command = tree / "usr/local/bin/seine"
    command.parent.mkdir(parents=True)
    shutil.copy(COMMAND, command)


def _install_requirements(wanted: list[str], versions: str, target: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(versions)
        constraints.flush()
        _install(["--constraint", constraints.name, *wanted], target)


def _install(what: list[str], target: Path) -> None:
    _run([sys.executable, "-m", "pip", "install", "-q", "--target", str(target), *what])
    shutil.rmtree(target / "bin", ignore_errors=True)  # commands of libraries


def _tar(layer: Path, fill: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory(prefix="seine-image-") as directory:
        tree = Path(directory)
        fill(tree)
        with tarfile.open(layer, "w") as tar:
            for entry in sorted(tree.iterdir()):
                tar.add(entry, entry.name, filter=_of_root)


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _layer(kind: str, inputs: Iterable[str], make: Callable[[Path], object]) -> Path:
    digest = hashlib.sha256("\0".join(inputs).encode()).hexdigest()[:16]
    layer = CACHE / f"image-{kind}-{digest}.tar"
    if not layer.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = layer.with_suffix(".unfinished.tar")
        make(unfinished)
        unfinished.rename(layer)
    return layer


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, cwd="/")


if __name__ == "__main__":
    print(build(Path(sys.argv[1])))
