"""What a bench is: the peers it wants, one turn, and the ratios that its bars are about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from tests.bench.bars import Bar
from tests.bench.measure import Sample
from tests.bench.peer import Mode, Peer
from tests.kit.lab import Lab

Round = dict[str, Sample]  # peer -> what its turn found


@dataclass(frozen=True)
class Column:
    """Of the printed table: a name in the samples, its heading, and how many of its units make one of the heading's."""

    name: str
    heading: str
    unit: float = 1
    digits: int = 0


class Kind(ABC):
    """What a result is of. `quick`: a short form."""

    name: str
    bars: tuple[Bar, ...]
    columns: tuple[Column, ...]
    rounds: int = 7
    quick_rounds: int = 3

    def __init__(self, quick: bool) -> None:
        self.quick = quick

    @property
    def usual_rounds(self) -> int:
        return self.quick_rounds if self.quick else self.rounds

    @abstractmethod
    def ratios(self, found: Round) -> dict[str, float]:
        """By key of the bars; a key is missing when it was not measured."""


class Bench(Kind):
    """One that compares peers. `quick`: shorter turns and the peers of `quick_peers` only."""

    peers: tuple[str, ...]
    quick_peers: tuple[str, ...] = ("envoy", "direct", "seine", "haproxy")
    modes: tuple[Mode, ...] = (Mode.HTTP,)
    nodes: int = 1  # 2: the client's pod on one, the servers' on another, with a wire between

    def prepare(self, lab: Lab) -> None:
        """Once, when all pods are there."""

    @abstractmethod
    def turn(self, peer: Peer) -> Sample:
        """Measure a peer that is not running; it is not running afterwards."""

    def complete(self, found: Round) -> Round:
        """Add what can only be said of a round as a whole: for each peer, what it costs the machine beyond direct."""
        if (direct := found.get("direct")) and "busy_us" in direct:
            for sample in found.values():
                sample["busy_added_us"] = sample["busy_us"] - direct["busy_us"]
        return found


def divided(found: Round, above: str, below: str, name: str) -> float | None:
    """found[above][name] / found[below][name], or None when one is not there."""
    if above not in found or below not in found or not found[below].get(name):
        return None
    return found[above][name] / found[below][name]


def present(ratios: dict[str, float | None]) -> dict[str, float]:
    return {key: value for key, value in ratios.items() if value is not None}
