"""The pure parts of the scale bench: what a cluster is made of, and when a change had its effect."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from mesh.kube.parse import SliceFacts, decode, parse
from tests.bench.load import LoadError, answered
from tests.bench.scale.effects import Change, Heard, effects, first_answers, heard_in
from tests.bench.scale.objects import SLICE_ENDPOINTS_MAX, Size, pieces
from tests.bench.scale.scale import FULL, QUICK, Scale
from tests.bench.scale.town import requests_of


@pytest.mark.parametrize("size", [FULL, QUICK])
def test_a_cluster_has_exactly_as_many_services_and_endpoints_as_it_says(size: Size) -> None:
    found = list(pieces(size))
    members = [member for piece in found for member in piece.members]
    assert sorted(members) == list(range(size.endpoints))
    assert {piece.service for piece in found} == set(range(size.services))
    assert max(len(piece.members) for piece in found) <= SLICE_ENDPOINTS_MAX
    assert len({piece.path for piece in found}) == len(found)


def test_its_slices_are_what_the_agent_reads() -> None:
    piece = next(pieces(QUICK))
    facts = parse(decode(piece.object(), "EndpointSlice"))
    assert isinstance(facts, SliceFacts)
    assert len(facts.endpoints) == len({each.uid for each in facts.endpoints}) == len(piece.members)
    changed = parse(decode(piece.changed(3, QUICK.endpoints).object(), "EndpointSlice"))
    assert isinstance(changed, SliceFacts)
    assert [a == b for a, b in zip(facts.endpoints, changed.endpoints, strict=True)].count(False) == 1


def test_what_a_probe_prints_is_read_and_half_a_line_is_not() -> None:
    heard = heard_in("1.5 0 ! timed out\n2.0 0 pod-01\n2.1 1 pod-01\n3.0 0 pod-0")
    assert heard == [Heard(1.5, 0, "", "! timed out"), Heard(2.0, 0, "pod-01"), Heard(2.1, 1, "pod-01")]
    assert first_answers(heard) == {0: 2.0, 1: 2.1}


def test_a_change_has_its_effect_with_the_first_answer_of_the_new_one() -> None:
    heard = [Heard(0.0, 0, "a"), Heard(1.2, 0, "b"), Heard(2.5, 0, "a")]
    changes = [Change(0, "b", 1.0, 1.1), Change(0, "a", 2.0, 2.6)]
    assert effects(changes, heard, 5) == [pytest.approx((0.2, 0.1)), pytest.approx((0.5, 0.0))]


def test_a_change_without_effect_and_a_failed_request_are_no_results() -> None:
    with pytest.raises(LoadError, match="no effect"):
        effects([Change(0, "b", 1.0, 1.1)], [Heard(0.0, 0, "b"), Heard(9.0, 0, "b")], 5)
    with pytest.raises(LoadError, match="1 requests failed"):
        effects([Change(0, "b", 1.0, 1.1)], [Heard(1.1, 1, "", "! reset"), Heard(1.2, 0, "b")], 5)


def test_requests_of_the_audit_log_are_counted_once_and_only_those_that_began_in_time() -> None:
    def entry(id: str, user: str, at: str) -> bytes:
        return json.dumps({"auditID": id, "user": {"username": user}, "requestReceivedTimestamp": at}).encode()

    lines = [
        entry("watch", "agent", "2026-01-01T00:00:10.000000Z"),
        entry("watch", "agent", "2026-01-01T00:00:10.000000Z"),
        entry("earlier", "agent", "2025-12-31T23:59:59.000000Z"),
        entry("other", "agent-2", "2026-01-01T00:00:11.000000Z"),
    ]
    assert requests_of("agent", lines, datetime(2026, 1, 1, tzinfo=UTC)) == {"watch"}


def test_only_answers_of_200_count() -> None:
    assert answered("1 200 10\n2 503 10\n3 -1 10\n4 200 10\n") == 2


def test_what_was_not_measured_has_no_figure() -> None:
    assert Scale(quick=True).ratios({"seine": {"sync_s": 3.0, "back_s": 1.0}}) == {"sync_s": 3.0}
