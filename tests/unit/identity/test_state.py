"""Files as values; what the authority does with them is in test_embedded."""

import asyncio

import pytest

from mesh.identity.authority import AuthorityError, RootState
from mesh.identity.state import State
from mesh.identity.store import Store
from tests.kit.clock import FakeClock


@pytest.fixture
def state(tmp_path):
    store = Store(tmp_path / "identity")
    store.prepare()
    return State(store, "cluster.local", FakeClock(1_800_000_000.0))


def test_there_is_nothing_before_the_first_root(state):
    assert state.read() is None
    with pytest.raises(AuthorityError, match="is not there"):
        state.get()


def test_every_change_of_the_roots_is_a_new_generation(state):
    first = state.add_root(RootState.ISSUING)
    joined = state.add_root(RootState.JOINING)
    switched = state.advance()
    ended = state.advance()
    assert [trust.generation for trust in (first, joined, switched, ended)] == [1, 2, 3, 4]
    assert [len(trust.roots) for trust in (first, joined, switched, ended)] == [1, 2, 2, 1]
    assert ended.issuing == switched.issuing != first.issuing
    assert [root.since for root in switched.roots] == [3, 3]


def test_the_key_is_that_of_the_root_that_issues(state):
    state.add_root(RootState.ISSUING)
    old = state.issuer.key
    state.add_root(RootState.JOINING)
    assert state.issuer.key.public_key() == old.public_key()
    state.advance()
    assert state.issuer.key.public_key() != old.public_key()


def test_unchanged_files_are_not_read_again(state, tmp_path):
    state.add_root(RootState.ISSUING)
    first = state.get()
    assert state.get() is first
    state.replace_denial("aa", None)
    assert state.get() is not first


def test_a_lost_file_is_noticed(state, tmp_path):
    state.add_root(RootState.ISSUING)
    (tmp_path / "identity/authority.json").unlink()
    with pytest.raises(AuthorityError, match="is gone, and this node may have certificates from it"):
        state.read()


def test_a_name_to_deny_is_checked(state):
    assert state.named("AA:BB") == "aabb"
    with pytest.raises(AuthorityError):
        state.named("the bad one")


def test_two_states_on_one_directory_agree(tmp_path):
    store = Store(tmp_path / "identity")
    store.prepare()
    clock = FakeClock(1_800_000_000.0)
    one, two = State(store, "cluster.local", clock), State(store, "cluster.local", clock)

    async def add():
        async with store.locked():
            return two.read() or two.add_root(RootState.ISSUING)

    one.add_root(RootState.ISSUING)
    assert asyncio.run(add()) == one.get()
