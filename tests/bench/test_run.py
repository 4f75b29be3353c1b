"""Rounds go on without the peer that fails, and a quick run ends in time."""

from __future__ import annotations

import pytest

from tests.bench import run
from tests.bench.bench import Bench, Round
from tests.bench.load import LoadError
from tests.bench.measure import Sample
from tests.bench.peer import Peer
from tests.bench.run import Run
from tests.kit.lab import Lab


class Counting(Bench):
    """Measures nothing; `bad` fails always, `flaky` in every second turn."""

    name, bars, columns = "counting", (), ()
    peers = ("good", "bad", "flaky")

    def __init__(self, quick: bool = False) -> None:
        super().__init__(quick)
        self.turns: list[str] = []

    def turn(self, peer: Peer) -> Sample:
        name = str(peer)
        self.turns.append(name)
        if name == "bad" or (name == "flaky" and self.turns.count("flaky") % 2):
            raise LoadError("no")
        return {"n": 1.0}

    def ratios(self, found: Round) -> dict[str, float]:
        return {}


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Run:
    bench = Counting()
    monkeypatch.setattr(run, "kinds", lambda *_: dict.fromkeys(bench.peers, Peer))
    made = Run(bench, Lab("unused"), lambda _: None)
    places = {(name, mode): name for name in bench.peers for mode in bench.modes}
    monkeypatch.setattr(made, "_prepare", lambda: made.places.update(places))  # type: ignore[arg-type]
    monkeypatch.setattr(made, "_versions", dict)
    return made


def test_a_peer_that_fails_twice_in_a_row_is_out_and_the_others_go_on(counting: Run) -> None:
    result = counting.rounds(6)
    bench = counting.bench
    assert isinstance(bench, Counting)
    assert [bench.turns.count(name) for name in bench.peers] == [6, 2, 6]
    assert [len(found) for found in result.rounds] == [1, 2, 1, 2, 1, 2]
    assert result.failures[:2] == ["round 1: bad: no", "round 1: flaky: no"]


def test_a_quick_run_has_no_round_that_would_not_end_in_time(counting: Run) -> None:
    clock = iter(range(0, 1000, 15))  # seconds between two looks: the length of a round
    counting.bench.quick, counting.begun, counting.clock = True, 0.0, lambda: next(clock)
    assert len(counting.rounds(7).rounds) == 2


def test_a_full_run_has_all_its_rounds(counting: Run) -> None:
    clock = iter(range(0, 10_000, 100))
    counting.begun, counting.clock = 0.0, lambda: next(clock)
    assert len(counting.rounds(7).rounds) == 7
