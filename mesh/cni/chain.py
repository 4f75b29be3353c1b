"""The plugin on the node's disk: its program in one folder, its entry in the network configuration of another.

Order is everything: an entry without its program fails every new pod of the node, which stays Ready all the while. So
the program comes before the entry and goes after it, and both change by rename(2). The configuration is contested
ground: whoever owns it may write it anew at any time, without us; so it is looked at again and again and our entry put
back. Which file runtimes use is theirs to choose: the first of its folder that can be read.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mesh.cni import PLUGIN
from mesh.cni.conflist import SUFFIXES, TYPE, BadConflist, with_entry, without_entry

FRESH = f".{TYPE}-"  # what we write and have not yet renamed; nobody reads such names
FILE_BYTES_MAX = 1 << 20


class ChainError(RuntimeError):
    """A sentence for the operator."""


class Paths(NamedTuple):
    """As this process sees them."""

    configurations: Path  # a folder
    programs: Path  # a folder
    rules: Path

    def note(self, path: Path) -> None:
        """Where `seine clean` finds them."""
        path.write_text(json.dumps([str(each) for each in self]))

    @classmethod
    def noted(cls, path: Path) -> Paths | None:
        try:
            return cls(*map(Path, json.loads(path.read_text())))
        except FileNotFoundError:
            return None


class Chain:
    def __init__(self, paths: Paths, entry: dict[str, str], plugin: Path = PLUGIN) -> None:
        self._folder, self._program, self._entry, self._plugin = (
            paths.configurations,
            paths.programs / TYPE,
            entry,
            plugin,
        )
        self._seen: tuple[object, ...] = ()  # what both looked like when all was well
        self._had: set[str] = set()  # files that had our entry, by name
        self.path = ""  # of the configuration that has our entry

    def ensure(self) -> list[str]:
        """Make it so; a sentence for each thing that had been so and was not any more. Raises ChainError."""
        try:
            if self._seen and self._seen == self._look():
                return []
            self._seen = ()
            mended = [*self._put_program(), *self._put_entry()]
            self._seen = self._look()
        except OSError as error:
            raise ChainError(f"new pods are not announced by CNI: {error.filename}: {error.strerror}") from None
        return mended

    def _look(self) -> tuple[object, ...]:
        """Changes when somebody writes, replaces or removes something."""
        files = (*configurations(self._folder), self._program, self._plugin)
        found = []
        for path in files:
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((path.name, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode))
        return tuple(found)

    def _put_program(self) -> Iterator[str]:
        wanted = self._plugin.read_bytes()
        try:
            known, mode = self._program.read_bytes(), self._program.stat().st_mode & 0o777
        except FileNotFoundError:
            known, mode = b"", 0
        if known == wanted and mode == 0o755:
            return
        write(self._program, wanted, 0o755)
        if self._had and known != wanted:
            yield f"{self._program} was gone or another; it was put back"

    def _put_entry(self) -> Iterator[str]:
        path, text = self._configuration()
        try:
            changed = with_entry(text, self._entry)
        except BadConflist as error:
            raise ChainError(f"new pods are not announced by CNI: {path}: {error}") from None
        if changed is not None:
            write(path, changed.encode(), path.stat().st_mode & 0o777)
            if path.name in self._had:
                yield f"{path} had lost our entry, or it was another; it was put back"
            elif self._had:
                yield f"{path} is the network configuration now, and had no entry of ours; it was put in"
        self._had.add(path.name)
        self.path = str(path)

    def _configuration(self) -> tuple[Path, str]:
        """The first that can be read, as runtimes have it."""
        for path in configurations(self._folder):
            if path.is_symlink():
                raise ChainError(f"new pods are not announced by CNI: {path} is a symbolic link, which is not followed")
            with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
                if text := path.read_text() if path.stat().st_size <= FILE_BYTES_MAX else "":
                    return path, text
        raise ChainError(f"new pods are not announced by CNI: {self._folder} has no network configuration (yet)")


def configurations(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    except FileNotFoundError:
        return []


def remove(paths: Paths) -> list[str]:
    """Every entry, then rules and program; a sentence for each thing that was there. Raises ChainError.

    What cannot be read has no entry of ours. The program stays when an entry does.
    """
    removed, (folder, programs, rules) = [], paths
    try:
        for path in configurations(folder):
            with contextlib.suppress(BadConflist, UnicodeDecodeError, FileNotFoundError):
                changed = without_entry(path.read_text())
                if changed is not None:
                    write(path, changed.encode(), path.stat().st_mode & 0o777)
                    removed.append(f"took our entry out of {path}")
        for left in (*folder.glob(f"{FRESH}*"), *programs.glob(f"{FRESH}*")):
            left.unlink(missing_ok=True)
        for path in (rules, programs / TYPE):
            if path.exists():
                path.unlink()
                removed.append(f"removed {path}")
    except OSError as error:
        raise ChainError(f"the CNI plugin cannot be taken out: {error.filename}: {error.strerror}") from None
    return removed


def write(path: Path, content: bytes, mode: int) -> None:
    """The whole of it or nothing, also over a loss of power. Raises OSError."""
    fresh = path.with_name(f"{FRESH}{path.name}")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
