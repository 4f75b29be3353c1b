"""What operators are shown of the controller, and what they are refused."""

from __future__ import annotations

import asyncio

import pytest

from mesh.controller import Office
from mesh.controlplane.keeping import Keeping
from mesh.identity.embedded import Embedded
from mesh.observe.identity_admin import Refused
from tests.kit.clock import FakeClock
from tests.kit.objects_api import FakeRequests, ObjectsApi


def office(handed: str = "", problem: str = "") -> Office:
    """Of a replica that leads, and has made the root."""
    clock = FakeClock(1_800_000_000.0)
    keeping = Keeping(FakeRequests(ObjectsApi()), "seine-system")
    authority = Embedded(keeping, "cluster.local", 1000.0, 10.0, clock, clock, decides=False)
    asyncio.run(authority.advance())
    return Office(authority, handed, lambda: problem)


def test_a_root_that_cannot_be_renewed_is_told_beside_the_one_that_goes_on():
    shown = office("seine-root", "the root in Secret seine-system/seine-root cannot be used").shown()
    assert len(shown.roots) == 1
    assert shown.problem == "the root in Secret seine-system/seine-root cannot be used"
    assert office().shown().problem == ""


def test_a_root_that_is_handed_in_is_rotated_where_it_comes_from():
    with pytest.raises(Refused, match="change it there"):
        asyncio.run(office("seine-root").rotate())
