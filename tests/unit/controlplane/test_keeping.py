"""The authority's state as objects: read whole or refused by name, and of two who decide at once one looks again."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from mesh.controlplane import keeping as module
from mesh.controlplane.keeping import Keeping
from mesh.identity import issue
from mesh.identity.authority import AuthorityError, Hanging, Record, RootState
from mesh.identity.embedded import Embedded
from mesh.identity.files import AUTHORITY
from tests.kit.clock import FakeClock
from tests.kit.objects_api import FakeRequests, ObjectsApi

HOME, DOMAIN, WEB = "seine-system", "cluster.local", "spiffe://cluster.local/ns/shop/sa/web"
FOLDER = f"/api/v1/namespaces/{HOME}"
SECRET, DENIED = f"{FOLDER}/secrets/seine-authority", f"{FOLDER}/configmaps/seine-denied"
SETTLE, LIFE = 10.0, 1000.0


class Replica:
    def __init__(self, api: ObjectsApi, clock: FakeClock) -> None:
        self.requests = FakeRequests(api)
        self.keeping = Keeping(self.requests, HOME)
        self.authority = Embedded(self.keeping, DOMAIN, LIFE, SETTLE, clock, clock, decides=False)

    async def look(self) -> None:
        """As its duty does every two seconds."""
        await self.keeping._look()
        await self.keeping.look_at_records()


def started(api, clock):
    """One that has looked once."""
    made = Replica(api, clock)
    do(made.look())
    return made


@pytest.fixture
def clock():
    return FakeClock(1_800_000_000.0)


@pytest.fixture
def api():
    return ObjectsApi()


@pytest.fixture
def replica(api, clock):
    return started(api, clock)


def do(work):
    return asyncio.run(work)


def record(clock, trust=None, *roots, node="node-a"):
    leafs = tuple(Hanging(root=root, count=1, until=clock.now + LIFE) for root in roots)
    if trust is None:
        return Record(node=node, leafs=leafs)
    return Record(node=node, generation=trust.generation, trusts=tuple(each.id for each in trust.roots), leafs=leafs)


def stored(api):
    return json.loads(base64.b64decode(api.objects[SECRET]["data"][AUTHORITY]))


def test_the_first_root_is_one_whoever_makes_it(api, clock):
    one, two = started(api, clock), started(api, clock)
    made = do(one.authority.advance())
    assert [root.state for root in made.roots] == [RootState.ISSUING]
    assert do(two.authority.advance()) == made
    assert do(two.authority.trust(Record(node="node-a"))) == made


def test_of_two_who_make_the_first_root_at_once_one_looks_again(api, clock):
    one, two = started(api, clock), started(api, clock)

    def overtaken():
        api.before_write = lambda: None
        do_in_thread(two.authority.advance)

    api.before_write = overtaken
    with pytest.raises(AuthorityError, match="was changed by another replica meanwhile") as caught:
        do(one.authority.advance())
    assert caught.value.reason == "conflict"
    assert do(one.authority.advance()) == two.authority.look()


def do_in_thread(work):
    """A loop of its own within another's turn."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(work())).result()


def test_a_replica_that_does_not_decide_makes_no_root(replica):
    with pytest.raises(AuthorityError, match="there is no root yet"):
        do(replica.authority.trust(Record(node="node-a")))


def test_every_replica_signs_and_tells_what_is_kept(api, clock):
    leader, other = started(api, clock), started(api, clock)
    trust = do(leader.authority.advance())
    do(other.look())
    request = issue.make_request(issue.new_key(), WEB)
    assert do(other.authority.sign(request, WEB))
    assert other.authority.look() == trust
    do(other.authority.deny(WEB, 100, "stolen"))
    do(leader.look())
    with pytest.raises(AuthorityError, match="is denied"):
        do(leader.authority.sign(request, WEB))


def test_what_a_node_holds_is_written_when_it_changes_and_not_else(api, clock, replica):
    trust = do(replica.authority.advance())
    told = record(clock, trust, trust.issuing)
    for _ in range(3):
        clock.advance(30)
        do(replica.authority.trust(told))
    assert api.asked.count(f"PATCH {FOLDER}/configmaps/seine-record-node-a") == 1
    do(replica.look())
    (found,) = replica.keeping.records()
    assert (found.node, found.leafs) == ("node-a", told.leafs)
    clock.advance(Keeping.record_seconds)
    do(replica.authority.trust(told))
    assert api.asked.count(f"PATCH {FOLDER}/configmaps/seine-record-node-a") == 2


def test_a_record_that_could_not_be_written_is_written_by_the_next_ask(api, clock, replica):
    trust = do(replica.authority.advance())
    told = record(clock, trust, trust.issuing)
    api.down = True
    with pytest.raises(AuthorityError, match="nobody answers"):
        do(replica.authority.trust(told))
    api.down = False
    do(replica.authority.trust(told))
    assert f"{FOLDER}/configmaps/seine-record-node-a" in api.objects


def test_a_leader_killed_after_any_step_of_a_rotation_loses_nothing(api, clock):
    """Each step is taken by a replica that has never been there before."""
    first = do(started(api, clock).authority.advance())
    old = first.issuing
    do(started(api, clock).authority.trust(record(clock, first, old)))
    do(started(api, clock).authority.rotate())
    new = next(root["certificate"] for root in stored(api)["roots"] if root["state"] == "joining")
    seen = []
    for _ in range(4):
        leader = started(api, clock)
        do(leader.look())
        trust = leader.authority.look()
        seen.append([root.state for root in trust.roots])
        do(started(api, clock).authority.trust(record(clock, trust, trust.issuing)))
        do(leader.look())
        assert do(leader.authority.advance()) == trust  # nothing before it has settled, for a new leader anew
        clock.advance(SETTLE)
        do(leader.authority.advance())
    assert seen == [
        [RootState.ISSUING, RootState.JOINING],
        [RootState.LEAVING, RootState.ISSUING],
        [RootState.ISSUING],
        [RootState.ISSUING],
    ]
    assert [root["certificate"] for root in stored(api)["roots"]] == [new]


def test_a_rotation_waits_for_a_node_that_another_replica_heard_of(api, clock):
    leader, other = started(api, clock), started(api, clock)
    first = do(leader.authority.advance())
    do(other.authority.trust(record(clock, first, first.issuing)))
    do(other.authority.rotate())
    for _ in range(5):
        clock.advance(SETTLE)
        do(leader.look())
        assert do(leader.authority.advance()).issuing == first.issuing
    assert "does not believe the new root" in leader.authority.outlook().nodes[0].obstacle


def harm(api, **data):
    api.put(SECRET, api.objects[SECRET] | {"data": data})


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "is empty"), ("!", "cannot be read"), ("e30=", "cannot be read"), ("bnVsbA==", "cannot be read")],
)
def test_a_damaged_secret_is_refused_by_name_and_never_replaced(api, clock, replica, text, words):
    good = do(replica.authority.advance())
    kept = dict(api.objects[SECRET]["data"])
    harm(api, **{AUTHORITY: text})
    for each in (replica, started(api, clock)):
        for work in (each.authority.advance, lambda e=each: e.authority.trust(Record(node="node-b"))):
            with pytest.raises(AuthorityError, match=f"Secret seine-system/seine-authority {words}") as caught:
                do(work())
            assert caught.value.reason == "damaged"
    assert api.objects[SECRET]["data"] == {AUTHORITY: text}
    harm(api, **kept)
    assert do(replica.authority.advance()) == good


def test_a_lost_secret_is_not_replaced_while_somebody_may_have_certificates_from_it(api, clock, replica):
    trust = do(replica.authority.advance())
    do(replica.authority.trust(record(clock, trust, trust.issuing)))
    del api.objects[SECRET]
    with pytest.raises(AuthorityError, match="node-a may have certificates from it"):
        do(started(api, clock).authority.advance())
    assert SECRET not in api.objects
    clock.advance(LIFE + 61)
    assert do(started(api, clock).authority.advance()).generation == 1


def test_denials_that_people_write_are_followed_and_damaged_ones_are_told(api, clock, replica):
    do(replica.authority.advance())
    text = '{"denied": [{"what": "AB:CD", "until": "2999-01-01T00:00:00Z", "reason": "by hand"}]}'
    api.put(DENIED, {"data": {"denied.json": text}})
    assert [each.what for each in do(replica.authority.trust(Record(node="node-a"))).denied] == ["abcd"]
    api.put(DENIED, {"data": {"denied.json": "{"}})
    with pytest.raises(AuthorityError, match=r"ConfigMap seine-system/seine-denied cannot be read.*mend it"):
        do(replica.authority.trust(Record(node="node-b")))


def test_nothing_is_said_before_the_first_look(api, clock):
    with pytest.raises(AuthorityError, match="was not read yet"):
        Replica(api, clock).authority.look()


def test_an_api_server_that_is_away_changes_nothing_that_is_known(api, clock, replica, monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    trust = do(replica.authority.advance())
    api.down = True

    async def scenario():
        looking = asyncio.ensure_future(replica.keeping.run())
        while not replica.keeping.problem:
            await asyncio.sleep(0.001)
        assert replica.authority.look() == trust
        assert await replica.authority.sign(issue.make_request(issue.new_key(), WEB), WEB)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    do(scenario())
