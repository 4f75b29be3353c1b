"""An honest peer never meets a limit; one that repeats what costs us does, and only for that kind."""

import pytest

from mesh.forward.quic.floods import ALLOWANCES, Allowance, Floods

TWO = {"thing": Allowance(burst=3, per_second=2), "other": Allowance(burst=1, per_second=0)}


def test_a_burst_passes_and_then_one_by_one_at_the_rate() -> None:
    floods = Floods(0.0, TWO)
    assert [floods.allows("thing", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [floods.allows("thing", 0.5) for _ in range(2)] == [True, False]
    assert [floods.allows("thing", 100.0) for _ in range(4)] == [True, True, True, False]


def test_kinds_do_not_know_each_other() -> None:
    floods = Floods(0.0, TWO)
    assert floods.allows("other", 0.0)
    assert not floods.allows("other", 1000.0)
    assert floods.allows("thing", 0.0)


@pytest.mark.parametrize("kind", ALLOWANCES)
def test_every_kind_has_an_end(kind: str) -> None:
    floods = Floods(0.0)
    assert not all(floods.allows(kind, 0.0) for _ in range(5000))
