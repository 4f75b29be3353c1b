"""What a leader does about roots: its own, one that is handed in, and the bundle that agents believe."""

from __future__ import annotations

import asyncio
import base64

import pytest

from mesh.controlplane.keeping import Keeping
from mesh.controlplane.rooting import Rooting
from mesh.identity import certificate, issue
from mesh.identity.authority import AuthorityError, RootState
from mesh.identity.embedded import Embedded
from tests.kit.clock import FakeClock
from tests.kit.objects_api import FakeRequests, ObjectsApi

HOME, DOMAIN = "seine-system", "cluster.local"
FOLDER = f"/api/v1/namespaces/{HOME}"
BUNDLE, GIVEN = f"{FOLDER}/configmaps/seine-roots", f"{FOLDER}/secrets/given"
SETTLE = 10.0


class Leader:
    def __init__(self, api, clock, secret=""):
        self.clock = clock
        requests = FakeRequests(api)
        keeping = Keeping(requests, HOME)
        self.authority = Embedded(keeping, DOMAIN, 1000.0, SETTLE, clock, clock, decides=False)
        self.rooting = Rooting(requests, keeping, self.authority, secret, lambda: True)
        self._keeping = keeping

    def turn(self):
        async def body():
            await self._keeping._look()
            self.rooting._handed_due = 0.0
            await self.rooting._turn()

        asyncio.run(body())


@pytest.fixture
def clock():
    return FakeClock(1_800_000_000.0)


@pytest.fixture
def api():
    return ObjectsApi()


def give(api, clock):
    """As cert-manager writes a root of its own."""
    key = issue.new_key()
    root = issue.make_root(DOMAIN, key, clock.now)
    text = {"tls.crt": certificate.pem(root), "tls.key": certificate.key_text(key), "ca.crt": certificate.pem(root)}
    api.put(GIVEN, {"data": {name: base64.b64encode(each.encode()).decode() for name, each in text.items()}})
    return root


def bundled(api):
    return api.objects[BUNDLE]["data"]["roots.pem"]


def states(leader):
    return {root.certificate: root.state for root in leader.authority.look().roots}


def test_a_cluster_gets_its_root_and_everybody_is_told(api, clock):
    leader = Leader(api, clock)
    leader.turn()
    (root,) = leader.authority.look().roots
    assert bundled(api) == certificate.pem(root.certificate)


def test_agents_are_told_of_a_new_root_before_anything_comes_from_it_and_of_the_old_one_until_nothing_does(api, clock):
    leader = Leader(api, clock)
    leader.turn()
    old = leader.authority.look().roots[0].certificate
    asyncio.run(leader.authority.rotate())
    leader.turn()
    new = next(each for each in states(leader) if each != old)
    assert states(leader)[new] is RootState.JOINING
    assert certificate.pem(new) in bundled(api)
    clock.advance(SETTLE)
    leader.turn()
    assert states(leader) == {old: RootState.LEAVING, new: RootState.ISSUING}
    leader.turn()
    assert certificate.pem(old) in bundled(api)
    clock.advance(SETTLE)
    leader.turn()
    leader.turn()
    assert bundled(api) == certificate.pem(new)


def test_a_root_that_is_handed_in_is_the_first_one(api, clock):
    given = give(api, clock)
    leader = Leader(api, clock, "given")
    leader.turn()
    assert states(leader) == {given: RootState.ISSUING}
    assert bundled(api) == certificate.pem(given)


def test_without_the_secret_that_is_to_hold_it_there_is_no_root_at_all(api, clock):
    leader = Leader(api, clock, "given")
    with pytest.raises(AuthorityError, match="is not there"):
        leader.turn()
    assert "there is no such Secret" in leader.rooting.handed_problem
    assert BUNDLE not in api.objects


def test_another_root_in_the_secret_begins_a_rotation_to_it(api, clock):
    first = give(api, clock)
    leader = Leader(api, clock, "given")
    leader.turn()
    second = give(api, clock)
    leader.turn()
    assert states(leader) == {first: RootState.ISSUING, second: RootState.JOINING}
    third = give(api, clock)  # too early: the rotation ends first
    clock.advance(SETTLE)
    leader.turn()
    assert states(leader) == {first: RootState.LEAVING, second: RootState.ISSUING}
    leader.turn()
    clock.advance(SETTLE)
    leader.turn()
    leader.turn()
    assert states(leader) == {second: RootState.ISSUING, third: RootState.JOINING}


def test_what_cannot_be_used_is_told_and_what_was_there_goes_on(api, clock):
    first = give(api, clock)
    leader = Leader(api, clock, "given")
    leader.turn()
    api.put(GIVEN, {"data": {"tls.crt": "AAAA", "tls.key": "AAAA"}})
    leader.turn()
    assert "Secret seine-system/given cannot be used, what was there before goes on" in leader.rooting.handed_problem
    assert states(leader) == {first: RootState.ISSUING}


def test_a_bundle_that_somebody_removed_comes_back(api, clock):
    leader = Leader(api, clock)
    leader.turn()
    del api.objects[BUNDLE]
    leader.rooting._tell_due = 0.0
    leader.turn()
    assert bundled(api)
