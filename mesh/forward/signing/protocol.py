"""The typed face of the signer (cext/signing.h, cext/signer.h): its words as bytes, and the signer itself.

The only module that touches `mesh.forward.signing._signer`, and it imports nothing else: the signer's process is small.
What is read may come from a process that was taken over: a packet that is not exactly one message is None.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from mesh.forward.signing._signer import ffi, lib

VERSION: int = lib.SIGNING_VERSION
KEY_BYTES: int = lib.SIGNING_KEY_BYTES
RESULTS = ("signed", "content", "unknown", "failed")  # in the order of their numbers
ANSWER_BYTES: int = ffi.sizeof("struct signing_answer")


class Answer(NamedTuple):
    ticket: int
    signature: bytes  # ECDSA as DER; empty: refused
    result: str


class Report(NamedTuple):
    version: int
    results: dict[str, int]  # answers since its start
    cut: int  # conversations ended because of what was said in them
    keys: int
    clients: int


def _packed(kind: str, values: dict[str, Any]) -> bytes:
    return bytes(ffi.buffer(ffi.new(f"struct {kind} *", values)))


def _read(kind: str, packet: bytes) -> Any:
    if len(packet) != ffi.sizeof(f"struct {kind}"):
        return None
    read = ffi.new(f"struct {kind} *")
    ffi.memmove(read, packet, ffi.sizeof(f"struct {kind}"))
    return read


# --- with whoever has handshakes to sign


def request(ticket: int, key: bytes, content: bytes) -> bytes:
    """Raises IndexError when the content is longer than any handshake's."""
    return _packed("signing_request", {"ticket": ticket, "key": key, "content": content, "length": len(content)})


def read_answer(packet: bytes) -> Answer | None:
    read = _read("signing_answer", packet)
    if read is None or read.length > lib.SIGNING_SIGNATURE_MAX or read.result >= lib.SIGNING_RESULTS:
        return None
    return Answer(read.ticket, bytes(read.signature)[: read.length], RESULTS[read.result])


# --- with the agent


def _command(kind: int, **values: Any) -> bytes:
    return _packed("signing_command", {"version": VERSION, "kind": kind, **values})


def welcome() -> bytes:
    """All keys come anew after it, and then `keep`."""
    return _command(lib.SIGNING_WELCOME)


def add(secret: bytes) -> bytes:
    """A private key of P-256 as DER."""
    return _command(lib.SIGNING_ADD, secret=secret, length=len(secret))


def forget(key: bytes) -> bytes:
    return _command(lib.SIGNING_FORGET, key=key)


def serve() -> bytes:
    """Descriptor: a socket on which somebody asks."""
    return _command(lib.SIGNING_SERVE)


def keep() -> bytes:
    return _command(lib.SIGNING_KEEP)


def read_report(packet: bytes) -> Report | None:
    read = _read("signing_report", packet)
    if read is None:
        return None
    return Report(read.version, dict(zip(RESULTS, read.results, strict=True)), read.cut, read.keys, read.clients)


# --- the signer itself


def lock_memory() -> bool:
    """Whether the keys of this process will never be swapped."""
    return bool(lib.signer_lock_memory() == 0)


class Signer:
    def __init__(self) -> None:
        self._signer = lib.signer_new()
        if self._signer == ffi.NULL:
            raise OSError(ffi.errno, f"the signer does not start: {os.strerror(ffi.errno)}")
        self.fd: int = lib.signer_fd(self._signer)

    def meet(self, fd: int) -> None:
        """A connected socket to an agent, the signer's from here on."""
        if (result := lib.signer_meet(self._signer, fd)) < 0:
            raise OSError(-result, f"the agent's socket: {os.strerror(-result)}")

    def run(self, timeout_ms: int) -> None:
        """Serves so long, or until a signal comes or the agent goes."""
        lib.signer_run(self._signer, timeout_ms)

    @property
    def has_agent(self) -> bool:
        return bool(lib.signer_has_agent(self._signer))

    @property
    def is_outdated(self) -> bool:
        """The agent is of another version, and wants another signer."""
        return bool(lib.signer_is_outdated(self._signer))

    @property
    def clients(self) -> int:
        return int(lib.signer_clients(self._signer))

    def close(self) -> None:
        if self._signer != ffi.NULL:
            lib.signer_free(self._signer)
            self._signer = ffi.NULL
