"""Who leads: whatever clocks say, never two at once, and nobody for longer than a term."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mesh.controlplane.election import RENEW_SECONDS, TERM_SECONDS, TRY_SECONDS, Election, Move, Seen, lease, seen

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


class Server:
    """A Lease, and candidates that write it."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def found(self):
        return seen(self.lease) if self.lease else None

    def write(self, candidate: Election, now: float, moment: datetime = NOON) -> None:
        self.version += 1
        made = lease("x", "home", candidate.me, self.found(), moment)
        made["metadata"]["resourceVersion"] = str(self.version)
        self.lease = made
        candidate.won(now)

    def turn(self, candidate: Election, now: float, moment: datetime = NOON) -> Move:
        move = candidate.decide(self.found(), now)
        if move is not Move.WAIT:
            self.write(candidate, now, moment.replace(microsecond=self.version % 1000))
        return move


def test_the_first_one_makes_the_lease_and_the_others_wait():
    server, a, b = Server(), Election("a"), Election("b")
    assert server.turn(a, 0) is Move.MAKE
    assert server.turn(b, 1) is Move.WAIT
    assert (a.leads(1), b.leads(1)) == (True, False)
    assert server.turn(a, 2) is Move.RENEW


def test_a_dead_leader_is_followed_after_one_term_of_silence():
    server, a, b = Server(), Election("a"), Election("b")
    server.turn(a, 0)
    assert server.turn(b, 100) is Move.WAIT  # it looks for the first time: silence begins for it now
    assert server.turn(b, 100 + TERM_SECONDS - 0.1) is Move.WAIT
    assert server.turn(b, 100 + TERM_SECONDS) is Move.TAKE
    assert b.leads(100 + TERM_SECONDS)
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 2


@pytest.mark.parametrize("hours", [-25, -1, 1, 25])
def test_what_clock_the_leader_has_makes_no_difference(hours):
    server, a, b = Server(), Election("a"), Election("b")
    moment = NOON.replace(day=3 if hours < 0 else 1, hour=abs(hours) % 24)
    for now in range(0, 100, 2):
        assert server.turn(a, now, moment) in (Move.MAKE, Move.RENEW)
        assert server.turn(b, now + 1000) is Move.WAIT


def test_a_leader_that_cannot_renew_steps_down_before_anybody_may_follow():
    server, a, b = Server(), Election("a"), Election("b")
    server.turn(a, 0)
    server.turn(b, 0)
    assert a.leads(RENEW_SECONDS - 0.1)
    assert not a.leads(RENEW_SECONDS)
    assert server.turn(b, RENEW_SECONDS) is Move.WAIT
    assert RENEW_SECONDS + TRY_SECONDS < TERM_SECONDS


def test_a_lease_that_was_given_back_is_taken_at_once():
    server, a, b = Server(), Election("a"), Election("b")
    server.turn(a, 0)
    server.turn(b, 1)
    server.lease = lease("x", "home", "", server.found(), NOON) | {}
    server.lease["metadata"]["resourceVersion"] = "9"
    assert server.turn(b, 2) is Move.TAKE


def test_who_was_overtaken_does_not_lead():
    server, a, b = Server(), Election("a"), Election("b")
    server.turn(a, 0)
    server.turn(b, 0)
    server.turn(b, TERM_SECONDS)  # a was frozen meanwhile
    assert server.turn(a, TERM_SECONDS + 1) is Move.WAIT
    assert not a.leads(TERM_SECONDS + 1)
    a.won(50)
    a.lost()
    assert not a.leads(50)


def test_a_lease_is_read_whatever_is_missing_in_it():
    assert seen({"metadata": {"resourceVersion": "1"}}) == Seen(version="1")
    assert seen({"metadata": {"resourceVersion": "1"}, "spec": {"holderIdentity": None}}).holder == ""
