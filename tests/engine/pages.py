"""Bytes that end where an unreadable page begins: a read beyond them ends the test."""

from __future__ import annotations

import mmap
from typing import Any

ROOM = 7 * mmap.PAGESIZE


class Guarded:
    def __init__(self, ffi: Any, lib: Any) -> None:
        """`lib` has mprotect, declared in `ffi`."""
        self._ffi = ffi
        self._map = mmap.mmap(-1, ROOM + mmap.PAGESIZE)
        self._base = ffi.from_buffer(self._map)
        assert lib.mprotect(self._base + ROOM, mmap.PAGESIZE, 0) == 0

    def put(self, data: bytes) -> Any:
        self._map[ROOM - len(data) : ROOM] = data
        return self._ffi.cast("uint8_t *", self._base + ROOM - len(data))
