"""A node's certificates over days of a fake clock: issued, renewed, kept while the authority is away, dropped."""

import asyncio
import itertools
import random
from datetime import UTC, datetime

import pytest

from mesh.identity import certificate, issue
from mesh.identity.authority import AuthorityError, Denial, Record, Root, RootState, Trust
from mesh.identity.embedded import Embedded
from mesh.identity.keeper import Keeper
from mesh.identity.store import Store
from tests.kit.clock import FakeClock

DOMAIN = "cluster.local"
WEB, DB, MAIL = (f"spiffe://{DOMAIN}/ns/shop/sa/{name}" for name in ("web", "db", "mail"))
HOUR, DAY = 3600.0, 86400.0


class Workers:
    """What they were told last."""

    def __init__(self):
        self.roots: tuple[bytes, ...] = ()
        self.denied: tuple[str, ...] = ()
        self.chains: dict[str, tuple[bytes, ...]] = {}
        self.words: list[str] = []

    def set_trust(self, domain, roots, denied):
        assert domain == DOMAIN
        self.roots, self.denied = roots, denied
        self.words.append("trust")

    def set_identities(self, chains):
        if chains != self.chains:
            self.chains = dict(chains)
            self.words.append("identities")


class Authority:
    """One that does as a test says."""

    kind, poll_seconds = "a test", 30.0

    def __init__(self, clock):
        self.clock = clock
        self.root_key = issue.new_key()
        self.root = issue.make_root(DOMAIN, self.root_key, clock())
        self.down, self.life = "", DAY
        self.denied: tuple[Denial, ...] = ()
        self.asked: list[str] = []
        self.records: list[Record] = []
        self.refused: set[str] = set()
        self.broken = False
        self.sign_for = ""  # another id, for whatever is asked
        self.public: certificate.PublicKey | None = None  # another key, likewise
        self.garbage = False
        self.held_up: asyncio.Event | None = None

    async def trust(self, record):
        self.records.append(record)
        if self.broken:
            raise ZeroDivisionError
        self._refuse()
        root = certificate.fingerprint(self.root)
        end = certificate.read_root(self.root).not_after
        one = Root(id=root, certificate=self.root, state=RootState.ISSUING, not_after=end, since=1)
        return Trust(generation=1, roots=(one,), denied=self.denied)

    async def sign(self, request, name):
        self.asked.append(name)
        if self.held_up:
            await self.held_up.wait()
        self._refuse()
        if name in self.refused:
            raise AuthorityError("not on your node", "refused")
        if self.garbage:
            return (b"garbage",)
        public, _ = certificate.read_request(request, DOMAIN)
        leaf = issue.make_leaf(
            issue.Issuer(certificate=self.root, key=self.root_key),
            *(self.public or public, self.sign_for or name, self.clock(), self.life),
        )
        return (leaf,)

    def _refuse(self):
        if self.down:
            raise AuthorityError(self.down, "unreachable")


class Node:
    """A keeper that is moved by hand."""

    def __init__(self, chance=0.5):
        self.clock = FakeClock(float(int(datetime.now(UTC).timestamp())))
        self.authority, self.workers = Authority(self.clock), Workers()
        self.keeper = keeper_of(self.authority, self.workers, self.clock, lambda: chance)

    async def want(self, *names):
        wanting = asyncio.create_task(self.keeper.want(names))
        await asyncio.sleep(0)
        await self.settle()
        await wanting

    async def settle(self):
        """All that is due now, and what follows from it."""
        for _ in range(4):
            self.keeper.tend()
            await self.keeper.idle()

    async def after(self, seconds, step=None):
        """Time goes on, and everything due meanwhile is done."""
        for _ in range(int(seconds / (step or seconds))):
            self.clock.advance(step or seconds)
            await self.settle()

    def serial(self, name=WEB):
        return self.keeper.held[name].facts.serial


def keeper_of(authority, workers, clock, chance, node="node-a"):
    return Keeper(authority, node, DOMAIN, workers, clock, clock, chance)


def scenario(test):
    def run(*arguments, **named):
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 30))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@scenario
async def test_identities_of_the_nodes_pods_are_issued_and_told_after_whom_to_believe():
    node = Node()
    await node.want(WEB, DB)
    assert set(node.workers.chains) == {WEB, DB}
    assert node.workers.roots == (node.authority.root,)
    assert node.workers.words[0] == "trust"
    public, facts = certificate.read_leaf(node.workers.chains[WEB], node.workers.roots, DOMAIN)
    key = node.keeper.key(WEB)
    assert key is not None
    assert (public, facts.name) == (key.public_key(), WEB)
    assert node.keeper.counts == {"issued": 2}


@scenario
async def test_nobody_is_asked_again_before_half_of_the_life():
    node = Node()
    await node.want(WEB)
    await node.after(12 * HOUR - 1, step=(12 * HOUR - 1) / 40)
    assert node.authority.asked == [WEB]
    first = node.serial()
    await node.after(2)
    assert node.authority.asked == [WEB, WEB]
    assert node.serial() != first
    assert node.keeper.counts == {"issued": 1, "renewed": 1}
    assert certificate.read_leaf(node.workers.chains[WEB], node.workers.roots, DOMAIN)[1].serial == node.serial()


@scenario
async def test_a_key_stays_over_renewals_because_a_handshake_under_way_names_no_certificate():
    node = Node()
    await node.want(WEB)
    first = node.keeper.key(WEB)
    await node.after(13 * HOUR)
    assert node.keeper.counts["renewed"] == 1
    assert node.keeper.key(WEB) is first


@scenario
async def test_a_denied_serial_number_gets_a_new_certificate_with_a_new_key_at_once():
    node = Node()
    await node.want(WEB, DB)
    first, other = node.keeper.key(WEB), node.keeper.key(DB)
    serial = node.serial()
    node.authority.denied = (Denial(what=serial, until=node.clock.now + HOUR),)
    await node.after(31)
    assert node.workers.denied == (serial,)
    assert node.serial() != serial
    assert node.keeper.key(WEB) is not first
    assert node.keeper.key(DB) is other
    await node.after(HOUR)
    assert not node.workers.denied


@scenario
async def test_a_denial_ends_in_time_although_the_authority_is_away():
    node = Node()
    node.authority.denied = (Denial(what=DB, until=node.clock.now + 100),)
    await node.want(WEB)
    assert node.workers.denied == (DB,)
    node.authority.down = "away"
    await node.after(101)
    assert not node.workers.denied


@scenario
async def test_a_certificate_is_kept_to_its_end_while_the_authority_is_away():
    """istio/istio#56452: certificates with half of their life left were thrown away when a renewal failed."""
    node = Node()
    await node.want(WEB)
    chain = node.workers.chains[WEB]
    node.authority.down = "connection refused"
    await node.after(DAY - 60, step=60)
    assert node.workers.chains == {WEB: chain}
    assert node.keeper.troubles[WEB].sentence == "connection refused"
    assert node.clock.now - node.keeper.succeeded == pytest.approx(DAY - 60, abs=31)
    assert node.keeper.failures["unreachable"] > 10
    await node.after(61)
    assert node.workers.chains == {}
    assert node.keeper.counts["expired"] == 1
    node.authority.down = ""
    await node.after(61)
    assert set(node.workers.chains) == {WEB}
    assert node.keeper.troubles == {}


@scenario
async def test_an_authority_that_is_away_is_asked_more_and_more_rarely_and_not_in_step():
    tries = []
    for chance in (0.0, 0.999):
        node = Node(chance)
        await node.want(WEB)
        node.authority.down = "away"
        await node.after(15 * HOUR)
        node.authority.asked.clear()
        await node.after(600, step=1)
        tries.append(len(node.authority.asked))
    assert 9 <= tries[1] < tries[0] <= 30  # a pause of 30 to 60 s each, after the first few


@scenario
async def test_a_node_that_starts_without_its_authority_serves_on_and_catches_up():
    node = Node()
    node.authority.down = "no route to host"
    await node.want(WEB)
    assert (node.workers.words, node.keeper.troubles[""].sentence) == ([], "no route to host")
    await node.want(WEB, DB)
    node.authority.down = ""
    await node.after(61)
    assert set(node.workers.chains) == {WEB, DB}


@scenario
async def test_an_identity_that_is_refused_holds_up_no_other():
    node = Node()
    node.authority.refused = {WEB}
    await node.want(WEB, DB)
    assert set(node.workers.chains) == {DB}
    assert node.keeper.failures == {"refused": 1}
    node.authority.refused = set()
    await node.after(61)
    assert set(node.workers.chains) == {WEB, DB}


@scenario
async def test_what_nobody_needs_any_more_is_dropped_at_once_and_what_came_too_late_is_not_kept():
    node = Node()
    await node.want(WEB, DB)
    await node.want(WEB)
    assert set(node.workers.chains) == {WEB}
    assert node.keeper.key(DB) is None
    node.authority.held_up = asyncio.Event()
    wanting = asyncio.create_task(node.keeper.want([WEB, MAIL]))
    await asyncio.sleep(0)
    node.keeper.tend()
    while MAIL not in node.authority.asked:
        await asyncio.sleep(0)
    await node.keeper.want([WEB])
    node.authority.held_up.set()
    await node.settle()
    assert set(node.keeper.held) == {WEB}
    await wanting


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda authority: setattr(authority, "sign_for", DB), f"for {DB} or another key"),
        (lambda authority: setattr(authority, "public", issue.new_key().public_key()), "or another key"),
        (lambda authority: setattr(authority, "root_key", issue.new_key()), "hangs from no root"),
        (lambda authority: setattr(authority, "clock", FakeClock(authority.clock() - 2 * DAY)), "clock wrong"),
        (lambda authority: setattr(authority, "garbage", True), "no certificate of a workload"),
    ],
    ids=["other id", "other key", "other root", "clock", "garbage"],
)
def test_a_certificate_of_no_use_is_refused_and_the_good_one_kept(harm, words):
    @scenario
    async def play():
        node = Node()
        await node.want(WEB)
        chain = node.workers.chains[WEB]
        harm(node.authority)
        await node.after(13 * HOUR)
        assert words in node.keeper.troubles[WEB].sentence
        assert node.workers.chains[WEB] == chain

    play()


def test_a_slow_authority_does_not_hold_up_pods_for_long(monkeypatch):
    monkeypatch.setattr("mesh.identity.keeper.FIRST_SECONDS_MAX", 0.05)

    @scenario
    async def play():
        node = Node()
        node.authority.held_up = asyncio.Event()
        running = asyncio.create_task(node.keeper.run())
        await node.keeper.want([WEB])
        assert node.workers.chains == {}
        node.authority.held_up.set()
        while WEB not in node.workers.chains:
            await asyncio.sleep(0.001)
        running.cancel()

    play()


@scenario
async def test_what_nobody_expected_ends_the_agent_loudly():
    node = Node()
    node.authority.broken = True
    with pytest.raises(ZeroDivisionError):
        await node.keeper.run()


@scenario
async def test_what_the_node_holds_is_told_as_soon_as_it_changed():
    node = Node()
    await node.want(WEB, DB)
    last = node.authority.records[-1]
    root = certificate.fingerprint(node.authority.root)
    assert (last.node, last.generation, last.trusts) == ("node-a", 1, (root,))
    assert [(leaf.root, leaf.count) for leaf in last.leafs] == [(root, 2)]
    count = len(node.authority.records)
    await node.after(29)
    assert len(node.authority.records) == count
    await node.after(2)
    assert len(node.authority.records) == count + 1


# --- rotation, by several nodes that share a directory


class City:
    """Nodes in any order and at any pace, one directory, one clock. Checked at every moment: each certificate that a
    node shows is believed by every other that has one itself."""

    def __init__(self, directory, nodes, seed):
        self.random = random.Random(seed)
        self.clock = FakeClock(float(int(datetime.now(UTC).timestamp())))
        self.directory = directory
        self.nodes: dict[str, tuple[Keeper, Workers]] = {}
        self.authorities: dict[str, Embedded] = {}
        self.pace: dict[str, float] = {}
        self.checked = 0
        for number in range(nodes):
            self.add(f"node-{number}")

    def add(self, name):
        self.authorities[name] = Embedded(Store(self.directory / "identity"), DOMAIN, DAY, 10.0, self.clock, self.clock)
        workers = Workers()
        self.nodes[name] = keeper_of(self.authorities[name], workers, self.clock, self.random.random, name), workers
        self.pace[name] = self.random.choice([1.0, 1.0, 0.02])  # some hear of nothing for minutes

    async def turn(self, name):
        keeper, _ = self.nodes[name]
        for _ in range(3):  # what became due by what was just done is done too
            keeper.tend()
            await keeper.idle()
            self.check()

    async def start(self, name, *names):
        self.nodes[name][0].wanted = frozenset(names)
        await self.turn(name)

    async def steps(self, count):
        for _ in range(count):
            self.clock.advance(self.random.random() * 2)
            names = list(self.nodes)
            await self.turn(self.random.choices(names, [self.pace[name] for name in names])[0])

    async def until(self, done):
        for _ in range(3000):
            if done():
                return
            await self.steps(1)
        raise AssertionError("the rotation does not end")

    def check(self):
        words = sum(len(workers.words) for _, workers in self.nodes.values())
        if words == self.checked:
            return
        self.checked = words
        for (a, (_, mine)), (b, (_, yours)) in itertools.permutations(self.nodes.items(), 2):
            if mine.chains and yours.chains:
                for chain in mine.chains.values():
                    certificate.read_leaf(chain, yours.roots, DOMAIN)  # raises when b does not believe a
                    assert a != b

    def believed(self):
        return {root.id for keeper, _ in self.nodes.values() if keeper.trust for root in keeper.trust.roots}

    def issuing(self):
        return {keeper.trust.issuing for keeper, _ in self.nodes.values() if keeper.trust}


@pytest.mark.parametrize("seed", range(8))
def test_a_rotation_cuts_nobody_off_whatever_the_order(tmp_path, seed):
    @scenario
    async def play():
        city = City(tmp_path, 4, seed)
        for name, names in (("node-0", [WEB, DB]), ("node-1", [WEB]), ("node-2", [DB, MAIL]), ("node-3", [])):
            await city.start(name, *names)
        (old,) = city.issuing()
        await city.authorities["node-1"].rotate()
        await city.steps(city.random.randrange(40))
        city.add("late")
        await city.start("late", MAIL)
        await city.until(lambda: old not in city.believed())
        (new,) = city.issuing()
        assert all(len(workers.roots) == 1 for _, workers in city.nodes.values())
        assert {held.facts.root for keeper, _ in city.nodes.values() for held in keeper.held.values()} == {new}

    play()


def test_a_node_that_sleeps_in_the_middle_of_a_rotation_is_waited_for(tmp_path):
    @scenario
    async def play():
        city = City(tmp_path, 3, 1)
        for name in city.nodes:
            await city.start(name, WEB)
        (old,) = city.issuing()
        sleeper = city.nodes.pop("node-2")
        await city.authorities["node-0"].rotate()
        await city.steps(200)
        assert city.issuing() == {old}
        outlook = city.authorities["node-0"].outlook()
        assert "waiting for node-2" in outlook.sentence
        city.nodes["node-2"] = sleeper
        await city.until(lambda: len(city.issuing()) == 1 and city.issuing() != {old})

    play()


def test_a_lost_directory_leaves_the_node_with_what_it_has(tmp_path):
    """Nothing is dropped, nothing new is made, and the sentence says which file."""

    @scenario
    async def play():
        city = City(tmp_path, 1, 1)
        await city.start("node-0", WEB)
        keeper, workers = city.nodes["node-0"]
        chain = workers.chains[WEB]
        (tmp_path / "identity/authority.json").write_text("")
        city.clock.advance(13 * HOUR)
        for _ in range(3):
            await city.turn("node-0")
        assert workers.chains == {WEB: chain}
        assert "authority.json is empty" in keeper.troubles[""].sentence
        assert "authority.json is empty" in keeper.troubles[WEB].sentence

    play()
