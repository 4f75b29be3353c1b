"""What a probe heard, and when each change had its effect. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.bench.load import LoadError


class Heard(NamedTuple):
    """From then on it was this one that answered; "" for nobody, and then why."""

    at: float
    probe: int
    answer: str
    error: str = ""


class Change(NamedTuple):
    """Who is to answer, and when that was sent and confirmed."""

    probe: int
    answer: str
    sent: float
    confirmed: float


def heard_in(text: str) -> list[Heard]:
    """A line that is still being written is left out."""
    found = []
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            at, probe, answer = line.rstrip().split(" ", 2)
            wrong = answer.startswith("!")
            found.append(Heard(float(at), int(probe), "" if wrong else answer, answer if wrong else ""))
    return found


def first_answers(heard: Iterable[Heard]) -> dict[int, float]:
    """When each probe was answered for the first time."""
    found: dict[int, float] = {}
    for each in heard:
        if each.answer:
            found.setdefault(each.probe, each.at)
    return found


def effects(changes: Iterable[Change], heard: Sequence[Heard], most: float) -> list[tuple[float, float]]:
    """Seconds from each change's sending, and from its confirmation, to the first answer of the new one. LoadError when
    one had no effect within `most`, or when a request failed meanwhile."""
    changes = list(changes)
    began = min(each.sent for each in changes)
    if errors := [each.error for each in heard if each.at >= began and each.error]:
        raise LoadError(f"{len(errors)} requests failed while endpoints changed, the first with {errors[0]}")
    found = []
    for change in changes:
        seen = (each.at for each in heard if each.probe == change.probe and each.answer == change.answer)
        at = next((at for at in seen if at >= change.sent), change.sent + 2 * most)
        if at > change.sent + most:
            raise LoadError(f"a change of probe {change.probe} to {change.answer} had no effect within {most:g} s")
        found.append((at - change.sent, max(0.0, at - change.confirmed)))
    return found
