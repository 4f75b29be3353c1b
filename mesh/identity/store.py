"""The files of an authority's state directory, read whole or not at all, written whole or not at all.

    authority.json      roots with their keys and states: one file, so that no moment shows half of a change; 0600
    denied.json         who is not believed for a while; people may edit it
    nodes/NODE.json     what each node says that it holds (mesh.identity.rotation)
    lock                held, by flock(2), by whoever reads in order to write

What is damaged is refused with its name and never written over: a new root in its place would cut off everybody. All
agents that use one directory may run at once; a file changes by rename(2), so readers need no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

import msgspec

from mesh.identity.authority import AuthorityError, Record
from mesh.identity.files import (
    AUTHORITY,
    DENIED,
    NODES,
    StoredAuthority,
    StoredDenial,
    StoredDenials,
    wrong_denials,
    wrong_version,
)

LOCK = "lock"
FILE_BYTES_MAX = 4 << 20  # 10 000 denials have 2 MiB
LOCK_SECONDS_MAX = 5.0  # whoever holds it writes a small file
LOCK_TRY_SECONDS = 0.02

T = TypeVar("T")


def damaged(path: Path, why: str) -> AuthorityError:
    return AuthorityError(f"{path} {why}; it is left as it is: {_remedy(path)}", "damaged")


def _remedy(path: Path) -> str:
    if path.name == DENIED:
        return "mend it, or remove it if nobody is to be denied"
    if path.parent.name == NODES:
        return "remove it: the node's agent writes it again, if there is one"
    return f"restore it from a copy, or stop all agents and move {path.parent} away to start over with a new root"


def failed(path: Path, error: OSError) -> AuthorityError:
    return AuthorityError(f"{path}: {error.strerror or error}", "io")


class Store:
    """One of mesh.identity.files."""

    record_seconds = 60.0  # for people who ask why a step is not taken

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def name(self) -> str:
        return f"directory {self.directory}"

    def path(self, name: str) -> Path:
        return self.directory / name

    def where(self, name: str) -> str:
        return str(self.path(name))

    def damaged(self, name: str, why: str) -> AuthorityError:
        return damaged(self.path(name), why)

    def prepare(self) -> None:
        """Make the directories. AuthorityError where that cannot be."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.path(NODES).mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise failed(self.directory, error) from None

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Alone among all processes that use the directory, and among this one's tasks."""
        path = self.path(LOCK)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise failed(path, error) from None
        try:
            await _flock(fd, path)
            yield
        finally:
            os.close(fd)

    def stamp(self, name: str) -> tuple[int, int, int]:
        """Differs when the file is another one, or changed, than it was; zeros when it is not there."""
        try:
            found = self.path(name).stat()
        except FileNotFoundError:
            return 0, 0, 0
        except OSError as error:
            raise failed(self.path(name), error) from None
        return found.st_ino, found.st_ctime_ns, found.st_size  # ctime: also of chmod

    # --- reading

    def authority(self) -> StoredAuthority | None:
        """None when there is no such file. AuthorityError when it is damaged, or open to others."""
        path = self.path(AUTHORITY)
        found = self._read(path, StoredAuthority)
        if found is None:
            return None
        try:
            mode = stat.S_IMODE(path.stat().st_mode) & 0o077
        except OSError as error:  # it went between the two looks
            raise failed(path, error) from None
        if mode:
            raise AuthorityError(
                f"{path} holds the root's key and others may use it (mode {mode:o}): find out who did, then chmod 600",
                "damaged",
            )
        if why := wrong_version(found):
            raise damaged(path, why)
        return found

    def denials(self) -> tuple[StoredDenial, ...]:
        path = self.path(DENIED)
        found = self._read(path, StoredDenials)
        if found is None:
            return ()
        if why := wrong_denials(found):
            raise damaged(path, why)
        return found.denied

    def records(self) -> tuple[Record, ...]:
        """Of all nodes. One that cannot be read is an error: it might be the one that would be cut off."""
        found = []
        try:
            paths = sorted(self.path(NODES).glob("*.json"))
        except OSError as error:
            raise failed(self.path(NODES), error) from None
        for path in paths:
            record = self._read(path, Record)
            if record is not None:  # removed between the two looks
                found.append(record)
        return tuple(found)

    def _read(self, path: Path, kind: type[T]) -> T | None:
        try:
            with path.open("rb") as file:
                text = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise failed(path, error) from None
        if len(text) > FILE_BYTES_MAX:
            raise damaged(path, f"has more than {FILE_BYTES_MAX} bytes")
        if not text.strip():
            raise damaged(path, "is empty")
        try:
            return msgspec.json.decode(text, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise damaged(path, f"cannot be read: {error}") from None

    # --- writing; the caller holds the lock

    def write_authority(self, value: StoredAuthority) -> None:
        self._write(self.path(AUTHORITY), value, lasting=True)

    def write_denials(self, denied: tuple[StoredDenial, ...]) -> None:
        self._write(self.path(DENIED), StoredDenials(denied), lasting=True)

    def write_record(self, record: Record) -> None:
        """Not made to last over a power cut: workers do not either."""
        self._write(self.record_path(record.node), record, lasting=False)

    def record_path(self, node: str) -> Path:
        return self.path(NODES) / f"{node}.json"

    def _write(self, path: Path, value: object, lasting: bool) -> None:
        fresh = path.with_name(f".{path.name}.new")
        text = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                os.fchmod(fd, 0o600)  # whatever the umask, and whatever a killed writer left
                file.write(text)
                file.flush()
                if lasting:
                    os.fsync(fd)
            os.replace(fresh, path)
            if lasting:
                _sync(path.parent)
        except OSError as error:
            raise failed(path, error) from None


async def _flock(fd: int, path: Path) -> None:
    """Waits on the loop: whoever holds the lock may have been stopped, and the agent must go on."""
    loop = asyncio.get_running_loop()
    end = loop.time() + LOCK_SECONDS_MAX
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if loop.time() > end:
                raise AuthorityError(
                    f"{path} has been held for {LOCK_SECONDS_MAX:g} s by another process", "io"
                ) from None
        await asyncio.sleep(LOCK_TRY_SECONDS)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
