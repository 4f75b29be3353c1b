from __future__ import annotations

from mesh.cni import rules


def test_a_line_for_each_closed_namespace_in_order():
    assert rules.text({"shop", "bank"}) == "closed bank\nclosed shop\n"
    assert rules.text(()) == ""
