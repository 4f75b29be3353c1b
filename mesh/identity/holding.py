"""What a node holds at one moment, and what of it is due. Pure: two clocks and chance come as values."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mesh.identity import renewal
from mesh.identity.authority import Hanging, Trust
from mesh.identity.certificate import Facts, Key

CLOCK_BACK_SECONDS = 60.0  # what certificates are dated back; less than that hurts nobody


class Held(msgspec.Struct, frozen=True):
    """One identity of ours."""

    key: Key
    chain: tuple[bytes, ...]  # DER, leaf first
    facts: Facts
    issued: float  # by our own clock
    chance: float  # drawn once, see mesh.identity.renewal


class Trouble(msgspec.Struct, frozen=True):
    """Why something could not be had, so many times in a row; `retry`: when it is tried again, monotonic."""

    failures: int
    retry: float
    sentence: str


def due(
    held: Held | None,
    trouble: Trouble | None,
    trust: Trust,
    denied: Iterable[str],
    switched: float,
    now: float,
    monotonic: float,
) -> bool:
    """Whether to ask for a certificate. `denied`: those of this moment; `switched`: since when another root issues."""
    if trouble is not None:
        return monotonic >= trouble.retry
    if held is None or held.facts.serial in denied:
        return True
    if held.facts.root != trust.issuing and monotonic >= renewal.reissue(switched, held.chance):
        return True
    if now < held.issued - CLOCK_BACK_SECONDS:
        return True  # our clock was set back: for the others this certificate begins in the future
    return now >= renewal.renewal(held.issued, held.facts.not_after, held.chance)


def hanging(held: Iterable[Held]) -> tuple[Hanging, ...]:
    """From which roots they hang, in the order of the roots' ids."""
    ends: dict[str, list[float]] = {}
    for each in held:
        ends.setdefault(each.facts.root, []).append(each.facts.not_after)
    return tuple(Hanging(root=root, count=len(ends[root]), until=max(ends[root])) for root in sorted(ends))
