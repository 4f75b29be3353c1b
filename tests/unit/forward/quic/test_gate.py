"""Few strangers are let in at once, many must prove their address, too many must wait."""

import pytest

from mesh.forward.quic.gate import Entry, GateLimits, admit

LIMITS = GateLimits(connections=10, unproven=5, trusting=2)


@pytest.mark.parametrize(
    ("connections", "unproven", "has_proof", "draining", "entry"),
    [
        (0, 0, False, False, Entry.IN),
        (9, 1, False, False, Entry.IN),
        (3, 2, False, False, Entry.RETRY),
        (3, 2, True, False, Entry.IN),
        (5, 4, True, False, Entry.IN),
        (5, 5, True, False, Entry.OUT),
        (5, 5, False, False, Entry.OUT),
        (10, 0, True, False, Entry.OUT),
        (0, 0, True, True, Entry.OUT),
    ],
)
def test_who_may_begin(connections: int, unproven: int, has_proof: bool, draining: bool, entry: Entry) -> None:
    assert admit(connections, unproven, has_proof, draining, LIMITS) is entry
