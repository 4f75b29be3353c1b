"""A state directory: whole files or clear refusals, and one writer at a time."""

import asyncio
import fcntl
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mesh.identity import store as module
from mesh.identity.authority import AuthorityError, Record
from mesh.identity.files import AUTHORITY, DENIED, StoredAuthority
from mesh.identity.store import Store


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "identity")
    made.prepare()
    return made


def authority(generation=1):
    return StoredAuthority(version=1, trust_domain="cluster.local", generation=generation, roots=())


def mode(path):
    return path.stat().st_mode & 0o777


def test_nothing_is_there_at_first(store):
    assert store.authority() is None
    assert store.denials() == ()
    assert store.records() == ()


def test_what_was_written_is_read_and_for_its_owner_only(store):
    former = os.umask(0)
    try:
        store.write_authority(authority())
        store.write_record(Record(node="node-a", generation=3))
    finally:
        os.umask(former)
    assert store.authority() == authority()
    assert store.records() == (Record(node="node-a", generation=3),)
    assert mode(store.directory) == 0o700
    assert {mode(path) for path in store.directory.rglob("*.json")} == {0o600}
    store.record_path("node-a").unlink()
    assert store.records() == ()


def test_a_reader_sees_the_old_or_the_new_and_never_a_part(store, monkeypatch):
    """Killed between writing and renaming: the old one stays, and the next writer is not in the way of what is left."""
    store.write_authority(authority(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(AuthorityError, match="Input/output error"):
            store.write_authority(authority(2))
    assert store.authority() == authority(1)
    store.write_authority(authority(3))
    assert store.authority() == authority(3)


def test_a_stamp_tells_a_change(store):
    assert store.stamp(AUTHORITY) == (0, 0, 0)
    store.write_authority(authority(1))
    first = store.stamp(AUTHORITY)
    store.write_authority(authority(2))
    assert first != store.stamp(AUTHORITY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"\0" * 4096, "cannot be read"),
        (b'{"version":1,"trust_dom', "cannot be read"),
        (b'{"version":1}', "cannot be read"),
        (b'{"version":1,"trust_domain":"x","generation":1,"roots":[],"more":1}', "cannot be read"),
        (b"[]", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b'{"version":2,"trust_domain":"x","generation":1,"roots":[]}', "is of version 2"),
        (b" " * (module.FILE_BYTES_MAX + 1), "has more than"),
    ],
)
def test_a_damaged_authority_is_refused_by_name_with_what_to_do(store, text, words):
    path = store.path(AUTHORITY)
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(AuthorityError) as caught:
        store.authority()
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "restore it from a copy" in str(caught.value)
    assert caught.value.reason == "damaged"
    assert path.read_bytes() == text


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o666])
def test_a_root_key_that_others_may_use_is_refused(store, bits):
    store.write_authority(authority())
    store.path(AUTHORITY).chmod(bits)
    with pytest.raises(AuthorityError, match="others may use it"):
        store.authority()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "is empty"),
        (b"{", "cannot be read"),
        (b'{"denied":[{"what":"aa"}]}', "cannot be read"),
        (b'{"denied":[{"what":"aa","until":"tomorrow"}]}', "cannot be read"),
        (b'{"denied":[{"what":"aa","until":"2030-01-31T12:00:00"}]}', "without its zone"),
        (
            b'{"denied":[' + b",".join([b'{"what":"aa","until":"2030-01-31T12:00:00Z"}'] * 10_001) + b"]}",
            "10000 are the most",
        ),
    ],
)
def test_damaged_denials_are_refused_by_name_with_what_to_do(store, text, words):
    store.path(DENIED).write_bytes(text)
    with pytest.raises(AuthorityError, match=words) as caught:
        store.denials()
    assert "mend it, or remove it" in str(caught.value)


def test_a_damaged_record_of_a_node_is_an_error_and_not_a_node_less(store):
    store.write_record(Record(node="node-a"))
    (store.directory / "nodes/node-b.json").write_text("{")
    with pytest.raises(AuthorityError, match=r"nodes/node-b.json cannot be read.*node's agent writes it again"):
        store.records()


def test_a_directory_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AuthorityError, match=r"file/identity: Not a directory"):
        Store(tmp_path / "file/identity").prepare()


def test_a_file_that_is_a_directory_is_a_sentence(store):
    store.path(AUTHORITY).mkdir()
    with pytest.raises(AuthorityError, match="Is a directory"):
        store.authority()


def test_whoever_holds_the_lock_for_ever_does_not_hold_up_the_loop(store, monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECONDS_MAX", 0.1)

    async def scenario():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        with pytest.raises(AuthorityError, match="has been held for"):
            async with store.locked():
                pass
        counting.cancel()
        assert turns > 3

    fd = os.open(store.path(module.LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        asyncio.run(scenario())
    finally:
        os.close(fd)


def test_processes_take_turns(store, tmp_path):
    """Each adds one, a hundred times: without turns some would be lost."""
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from mesh.identity.files import StoredAuthority
        from mesh.identity.store import Store
        async def main():
            store = Store(Path(sys.argv[1]))
            for _ in range(100):
                async with store.locked():
                    before = store.authority().generation
                    store.write_authority(StoredAuthority(1, "x", before + 1, ()))
        asyncio.run(main())
    """)
    store.write_authority(StoredAuthority(1, "x", 0, ()))
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", program, str(store.directory)]
    started = [subprocess.Popen(command, cwd=root) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    found = store.authority()
    assert found is not None
    assert found.generation == 200
