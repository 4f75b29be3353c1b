"""An authority in a directory: made once, never in the place of a damaged one, and rotated by whoever uses it."""

import asyncio
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from mesh.identity import certificate, issue
from mesh.identity.authority import AuthorityError, Hanging, Record, RootState
from mesh.identity.embedded import Embedded
from mesh.identity.rotation import Step
from mesh.identity.store import Store
from tests.kit.clock import FakeClock

DOMAIN, WEB = "cluster.local", "spiffe://cluster.local/ns/shop/sa/web"
NODE = Record(node="node-a")
LIFE, SETTLE = 1000.0, 10.0


@pytest.fixture
def clock():
    return FakeClock(float(int(datetime.now(UTC).timestamp())))


def make(directory, clock, domain=DOMAIN):
    return Embedded(Store(directory / "identity"), domain, LIFE, SETTLE, clock, clock)


@pytest.fixture
def embedded(tmp_path, clock):
    return make(tmp_path, clock)


def do(work):
    return asyncio.run(work)


def sign(authority, name=WEB, key=None):
    return do(authority.sign(issue.make_request(key or issue.new_key(), name), name))


def file(tmp_path, name="authority.json"):
    return tmp_path / "identity" / name


def test_the_first_node_makes_the_root_and_every_other_finds_it(tmp_path, clock, embedded):
    first = do(embedded.trust(NODE))
    assert [root.state for root in first.roots] == [RootState.ISSUING]
    again = do(make(tmp_path, clock).trust(Record(node="node-b")))
    assert again == first
    assert [record.node for record in Store(tmp_path / "identity").records()] == ["node-a", "node-b"]


def test_two_processes_that_start_at_once_have_one_root(tmp_path):
    program = textwrap.dedent("""
        import asyncio, sys, time
        from pathlib import Path
        from mesh.identity.authority import Record
        from mesh.identity.embedded import Embedded
        from mesh.identity.store import Store
        authority = Embedded(Store(Path(sys.argv[1])), "cluster.local", 60, 1, time.time, time.monotonic)
        print("ready", flush=True)
        sys.stdin.readline()
        print(asyncio.run(authority.trust(Record(node=sys.argv[2]))).roots[0].id)
    """)
    root = Path(__file__).parents[3]
    for turn in range(3):
        command = [sys.executable, "-c", program, str(tmp_path / f"identity-{turn}")]
        pipe = subprocess.PIPE
        started = [
            subprocess.Popen([*command, name], stdin=pipe, stdout=pipe, text=True, cwd=root) for name in ("a", "b", "c")
        ]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert len({process.communicate(timeout=30)[0] for process in started}) == 1
        assert all(process.returncode == 0 for process in started)


def test_a_request_gets_a_certificate_that_hangs_from_the_root(embedded, clock):
    trust = do(embedded.trust(NODE))
    key = issue.new_key()
    chain = sign(embedded, key=key)
    public, facts = certificate.read_leaf(chain, [root.certificate for root in trust.roots], DOMAIN)
    assert public == key.public_key()
    assert (facts.name, facts.root, facts.not_after) == (WEB, trust.issuing, clock.now + LIFE)


def test_what_is_asked_for_must_be_what_the_request_says(embedded):
    do(embedded.trust(NODE))
    request = issue.make_request(issue.new_key(), WEB)
    with pytest.raises(AuthorityError, match="the request is for") as caught:
        do(embedded.sign(request, WEB.replace("web", "db")))
    assert caught.value.reason == "refused"
    with pytest.raises(AuthorityError, match=r"of the trust domain example.org"):
        sign(embedded, WEB.replace(DOMAIN, "example.org"))


def test_nothing_is_signed_before_there_is_a_root(embedded):
    with pytest.raises(AuthorityError, match=r"authority.json is not there"):
        sign(embedded)


def damage(text):
    return lambda path: path.write_bytes(text(path.read_bytes()))


def swap_key(path):
    stored = msgspec.json.decode(path.read_bytes())
    stored["roots"][0]["key"] = certificate.key_text(issue.new_key())
    path.write_bytes(msgspec.json.encode(stored))


def change_root(**changes):
    def change(path):
        stored = msgspec.json.decode(path.read_bytes())
        stored["roots"][0].update(changes)
        path.write_bytes(msgspec.json.encode(stored))

    return change


def duplicate(path):
    stored = msgspec.json.decode(path.read_bytes())
    stored["roots"] *= 2
    path.write_bytes(msgspec.json.encode(stored))


DAMAGES = [
    (damage(lambda text: b""), "is empty"),
    (damage(lambda text: text[: len(text) // 2]), "cannot be read"),
    (damage(lambda text: b"\0" * len(text)), "cannot be read"),
    (swap_key, "is not the one in its certificate"),
    (change_root(key=""), "the key cannot be read"),
    (change_root(certificate="-----BEGIN CERTIFICATE-----\nMII"), "the certificate cannot be read"),
    (change_root(state="leaving"), "0 roots issue"),
    (duplicate, "2 roots issue"),
    (lambda path: path.chmod(0o644), "others may use it"),
    (lambda path: path.unlink(), "is gone"),
]
NAMES = ["empty", "cut", "zeros", "key", "no key", "certificate", "no issuer", "two issuers", "mode", "gone"]


@pytest.mark.parametrize(("harm", "words"), DAMAGES, ids=NAMES)
def test_a_damaged_file_is_refused_and_never_replaced(tmp_path, clock, embedded, harm, words):
    """By the agent that runs and by one that starts; and once it is restored, all goes on by itself."""
    holding = Record(node="node-a", leafs=(Hanging(root="x", count=1, until=clock.now + 100),))
    before = do(embedded.trust(holding))
    path = file(tmp_path)
    good = path.read_bytes()
    harm(path)
    harmed = path.read_bytes() if path.exists() else None
    for authority in (embedded, make(tmp_path, clock)):
        for work in (lambda a=authority: do(a.trust(NODE)), lambda a=authority: sign(a)):
            with pytest.raises(AuthorityError, match=words) as caught:
                work()
            assert str(path) in str(caught.value)
            assert caught.value.reason == "damaged"
    assert (path.read_bytes() if path.exists() else None) == harmed
    path.write_bytes(good)
    path.chmod(0o600)
    assert do(embedded.trust(NODE)) == before
    assert sign(embedded)


def test_a_directory_of_another_trust_domain_is_refused(tmp_path, clock, embedded):
    do(embedded.trust(NODE))
    with pytest.raises(AuthorityError, match=r"is of the trust domain cluster.local, and this agent of example.org"):
        do(make(tmp_path, clock, "example.org").trust(NODE))


def test_a_lost_root_is_made_anew_only_where_nobody_can_have_a_certificate_from_it(tmp_path, clock, embedded):
    do(embedded.trust(Record(node="node-a", leafs=(Hanging(root="x", count=1, until=clock.now + 100),))))
    file(tmp_path).unlink()
    with pytest.raises(AuthorityError, match="node-a may have certificates from it"):
        do(make(tmp_path, clock).trust(Record(node="node-b")))
    clock.advance(1000)
    assert do(make(tmp_path, clock).trust(Record(node="node-b"))).generation == 1


# --- denials


def test_who_is_denied_is_told_and_gets_no_certificate_until_the_time_is_up(embedded, clock):
    do(embedded.trust(NODE))
    denial = do(embedded.deny(WEB, 100, "stolen laptop"))
    assert do(embedded.trust(NODE)).denied == (denial,)
    assert denial.until == clock.now + 100
    with pytest.raises(AuthorityError, match=r"is denied until .*: stolen laptop") as caught:
        sign(embedded)
    assert caught.value.reason == "denied"
    assert sign(embedded, WEB.replace("web", "db"))
    clock.advance(100)
    assert sign(embedded)


def test_a_denial_is_one_for_all_agents_and_can_be_taken_back(tmp_path, clock, embedded):
    do(embedded.trust(NODE))
    other = make(tmp_path, clock)
    do(other.trust(Record(node="node-b")))
    do(embedded.deny("AB:CD", 100, "lost"))
    do(embedded.deny("abcd", 200, "lost again"))
    assert [(each.what, each.until) for each in do(other.trust(NODE)).denied] == [("abcd", clock.now + 200)]
    assert do(other.allow("ABCD"))
    assert not do(other.allow("ABCD"))
    assert do(embedded.trust(NODE)).denied == ()


def test_what_cannot_be_denied_is_a_sentence(embedded):
    do(embedded.trust(NODE))
    with pytest.raises(AuthorityError, match="neither a SPIFFE id nor a serial number"):
        do(embedded.deny("the bad one", 100, ""))


def test_denials_that_people_write_are_followed_and_damaged_ones_change_nothing(tmp_path, clock, embedded):
    do(embedded.trust(NODE))
    path = file(tmp_path, "denied.json")
    path.write_text('{"denied": [{"what": "AB:CD", "until": "2999-01-01T00:00:00Z", "reason": "by hand"}]}')
    assert [each.what for each in do(embedded.trust(NODE)).denied] == ["abcd"]
    text = '{"denied": [{"what": "nobody", "until": "2999-01-01T00:00:00Z"}]}'
    path.write_text(text)
    for authority in (embedded, make(tmp_path, clock)):
        with pytest.raises(AuthorityError, match=r"denied.json cannot be used: 'nobody' is neither"):
            do(authority.trust(NODE))
    with pytest.raises(AuthorityError, match=r"denied.json"):
        do(embedded.deny("ab", 100, ""))
    assert path.read_text() == text


# --- rotation


def leafs(clock, *roots):
    return tuple(Hanging(root=root, count=1, until=clock.now + LIFE) for root in roots)


def speak(authority, clock, node, trust, *roots):
    trusts = tuple(root.id for root in trust.roots)
    told = Record(node=node, generation=trust.generation, trusts=trusts, leafs=leafs(clock, *roots))
    return do(authority.trust(told))


def test_a_rotation_waits_for_the_slowest_node_at_every_step(tmp_path, clock, embedded):
    first = do(embedded.trust(NODE))
    old = first.issuing
    quick, slow = embedded, make(tmp_path, clock)
    speak(quick, clock, "quick", first, old)
    speak(slow, clock, "slow", first, old)
    assert quick.outlook().step is Step.NONE
    begun = do(quick.rotate())
    assert begun.step is Step.SWITCH
    assert {node.node for node in begun.nodes if node.obstacle} == {"quick", "slow"}
    joined = do(quick.trust(NODE))
    new = next(root.id for root in joined.roots if root.id != old)
    for _ in range(5):  # the slow one has not heard: nothing moves, however long
        clock.advance(SETTLE)
        assert speak(quick, clock, "quick", joined, old).issuing == old
    assert speak(slow, clock, "slow", joined, old).issuing == old
    clock.advance(SETTLE / 2)
    assert speak(slow, clock, "slow", joined, old).issuing == old
    clock.advance(SETTLE / 2)
    switched = speak(slow, clock, "slow", joined, old)
    assert switched.issuing == new
    assert {root.id for root in switched.roots} == {old, new}
    for _ in range(5):  # the quick one has the old root's certificates still
        clock.advance(SETTLE)
        assert len(speak(slow, clock, "slow", switched, new).roots) == 2
    assert len(speak(quick, clock, "quick", switched, new).roots) == 2
    clock.advance(SETTLE)
    ended = speak(quick, clock, "quick", switched, new)
    assert [root.id for root in ended.roots] == [new]
    assert old not in file(tmp_path).read_text()
    assert quick.outlook().step is Step.NONE


def test_two_rotations_do_not_overlap(tmp_path, clock, embedded):
    do(embedded.trust(NODE))
    do(embedded.rotate())
    for authority in (embedded, make(tmp_path, clock)):
        with pytest.raises(AuthorityError, match="a rotation is under way"):
            do(authority.rotate())


def test_a_node_that_is_gone_holds_a_rotation_up_no_longer_than_its_certificates_live(tmp_path, clock, embedded):
    first = do(embedded.trust(NODE))
    speak(make(tmp_path, clock), clock, "gone", first, first.issuing)
    do(embedded.rotate())
    joined = do(embedded.trust(NODE))
    speak(embedded, clock, "here", joined, first.issuing)
    clock.advance(SETTLE)
    assert speak(embedded, clock, "here", joined, first.issuing).issuing == first.issuing
    clock.advance(LIFE + 61)
    speak(embedded, clock, "here", joined, first.issuing)
    clock.advance(SETTLE)
    assert speak(embedded, clock, "here", joined, first.issuing).issuing != first.issuing


def test_a_record_that_cannot_be_read_holds_up_a_rotation_and_nothing_else(tmp_path, clock, embedded, caplog):
    first = do(embedded.trust(NODE))
    do(embedded.rotate())
    joined = do(embedded.trust(NODE))
    bad = tmp_path / "identity/nodes/bad.json"
    bad.write_text("{")
    for _ in range(5):
        clock.advance(SETTLE)
        assert speak(embedded, clock, "here", joined, first.issuing) == joined
    assert caplog.text.count("the rotation of the root waits") == 1
    with pytest.raises(AuthorityError, match=r"bad.json cannot be read"):
        embedded.outlook()
    do(embedded.deny(WEB, 60, "meanwhile"))
    assert speak(embedded, clock, "here", joined, first.issuing).denied
    bad.unlink()
    speak(embedded, clock, "here", joined, first.issuing)
    clock.advance(SETTLE)
    assert speak(embedded, clock, "here", joined, first.issuing).issuing != first.issuing
