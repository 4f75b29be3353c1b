"""Who, what, why; and not too often."""

from __future__ import annotations

from typing import Any

from mesh.model import Ruling
from mesh.observe.names import Names, PolicyName
from mesh.observe.rulings import Rulings

NAMES = Names(policies={7: PolicyName(namespace="shop", name="no-admin", action="DENY")})


def ruling(**fields: Any) -> Ruling:
    usual = {"policy": 7, "rule": 1, "verdict": "denied", "missed": 0, "slot": 3, "port": 80}
    client = {"client": "10.0.0.9", "client_port": 4711, "identity": "spiffe://cluster.local/ns/shop/sa/c"}
    return Ruling(**{**usual, **client, **fields})


class Told:
    def __init__(self) -> None:
        self.now = 100.0
        self._rulings = Rulings(lambda: self.now)

    def __call__(self, *rulings: Ruling) -> list[str]:
        def client(address: str) -> str:
            return {"10.0.0.9": "shop/client"}.get(address, "")

        return [line.text for line in self._rulings.lines(rulings, NAMES, {3: "shop/web"}.get, client)]


def test_a_denied_request_is_told_with_who_what_and_why() -> None:
    (line,) = Told()(ruling(method="GET", path="/admin", host="web.shop"))
    assert line == (
        "shop/client (10.0.0.9:4711, spiffe://cluster.local/ns/shop/sa/c) -> shop/web:80 GET /admin (host web.shop) "
        "denied by AuthorizationPolicy shop/no-admin, rule 1"
    )


def test_a_stranger_is_told_as_far_as_he_is_known() -> None:
    (line,) = Told()(ruling(policy=0, rule=-1, client="192.0.2.1", identity="", slot=9))
    assert line == "(192.0.2.1:4711, identity not proven) -> a pod:80 denied because no ALLOW policy has a rule for it"


def test_a_dry_run_says_that_it_is_one() -> None:
    told = Told()
    assert (
        "would be denied (dry run) by AuthorizationPolicy shop/no-admin, which has no"
        in told(ruling(verdict="would_deny", rule=-1))[0]
    )
    assert "would be allowed (dry run)" in told(ruling(verdict="would_allow"))[0]


def test_one_line_a_second_per_policy_and_verdict_says_how_many_it_stands_for() -> None:
    told = Told()
    assert len(told(ruling(), ruling(missed=4), ruling(verdict="audited"))) == 2
    assert told(ruling()) == []
    told.now += 1
    (line,) = told(ruling(missed=2))
    assert line.endswith("; 8 more since the last line like it")
    told.now += 1
    (line,) = told(ruling())
    assert "more" not in line


def test_a_worker_is_not_believed() -> None:
    told = Told()
    assert told(ruling(policy=8), ruling(verdict="nonsense"), ruling(verdict="allowed")) == []
    (line,) = told(ruling(path="/\x1b[2J\n", identity="a\nb"))
    assert line.isprintable()
