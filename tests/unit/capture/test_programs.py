"""Bytecode surgery: map descriptors exchanged, the slot patched, nothing else touched."""

from __future__ import annotations

import pytest

from mesh.capture.objects import KernelError
from mesh.capture.programs import INSTRUCTION, SLOT_MARK, patch_slot, relocate


def wide(registers: int, value: int) -> bytes:
    """A 64-bit load: two instructions."""
    return INSTRUCTION.pack(0x18, registers, 0, value) + INSTRUCTION.pack(0, 0, 0, 0)


MOVE = INSTRUCTION.pack(0xB7, 1, 0, 5)


def test_only_map_loads_are_relocated():
    code = MOVE + wide(0x11, 5) + wide(0x01, 5) + wide(0x12, 6)
    assert relocate(code, {5: 105, 6: 106}) == MOVE + wide(0x11, 105) + wide(0x01, 5) + wide(0x12, 106)


def test_an_unknown_map_is_an_error():
    with pytest.raises(KeyError):
        relocate(wide(0x11, 9), {5: 105})


def test_the_slot_takes_the_marks_place():
    assert patch_slot(MOVE + wide(0x01, SLOT_MARK) + MOVE, 7) == MOVE + wide(0x01, 7) + MOVE


@pytest.mark.parametrize("code", [MOVE, wide(0x01, SLOT_MARK) * 2])
def test_the_mark_must_be_there_exactly_once(code):
    with pytest.raises(KernelError, match="instead of once"):
        patch_slot(code, 7)
