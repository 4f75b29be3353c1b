from __future__ import annotations

import pytest

from mesh.observe import families as f

DECLARED = [family for family in vars(f).values() if isinstance(family, f.Family)]


@pytest.mark.parametrize("family", DECLARED, ids=lambda family: family.name)
def test_names_follow_prometheus(family: f.Family) -> None:
    assert family.name.endswith("_total") == (family.kind == "counter")
    assert family.name.startswith(("seine_", "istio_"))
    assert family.help.endswith(".")
    assert len(set(family.labels)) == len(family.labels)


def test_no_name_twice() -> None:
    assert len({family.name for family in DECLARED}) == len(DECLARED)


@pytest.mark.parametrize(
    ("name", "kind", "full"),
    [
        ("accepted", "counter", "seine_engine_accepted_total"),
        ("connections", "gauge", "seine_engine_connections"),
        ("dials_total", "counter", "seine_engine_dials_total"),
        ("Odd-Name", "gauge", "seine_engine_odd_name"),
    ],
)
def test_an_engine_counter_gets_a_name(name: str, kind: f.Kind, full: str) -> None:
    assert f.engine(name, "counter" if kind == "counter" else "gauge").name == full
