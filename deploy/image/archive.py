"""A container image as one file that `docker load` and `ctr images import` take: a Docker archive.

Format: https://github.com/moby/docker-image-spec, section "Combined Image JSON + Filesystem Changeset Format".
Nothing in it tells the time: equal layers make an equal archive.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def pack(archive: Path, names: Sequence[str], config: Mapping[str, object], layers: Sequence[Path]) -> Path:
    """`layers` are uncompressed tars, the lowest first; `names` are all its own; `config` as in the specification:
    Entrypoint, Env, User ..."""
    digests = [_sha256(layer) for layer in layers]
    described = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    inside = [f"{digest}.tar" for digest in digests]
    manifest = [{"Config": "config.json", "RepoTags": list(names), "Layers": inside}]
    with tarfile.open(archive, "w") as tar:
        add(tar, "config.json", json.dumps(described).encode())
        add(tar, "manifest.json", json.dumps(manifest).encode())
        for layer, name in zip(layers, inside, strict=True):
            with layer.open("rb") as content:
                entry = tarfile.TarInfo(name)
                entry.size = layer.stat().st_size
                tar.addfile(entry, content)
    return archive


def add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def add_folder(tar: tarfile.TarFile, name: str, mode: int = 0o755) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
