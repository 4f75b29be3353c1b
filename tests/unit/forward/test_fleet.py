"""Workers are told all of the state when they come, the difference when it changes, and are answered."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine

import msgspec

from mesh.aio.channel import Channel
from mesh.forward import messages as say
from mesh.forward.fleet import Fleet, Hear, MakeSockets, OpenSigner, ServedPod
from mesh.model import Authorization, Plan, Ruling, Source

LIMITS = say.Limits(max_connections=0, connect_timeout_ms=1, detect_timeout_ms=2, idle_timeout_ms=3, stream_idle_ms=4)
WELCOME = say.Welcome(node="node-a", drain_seconds=5.0, limits=LIMITS)


async def no_sockets(_netns: str, _family: int, _count: int) -> list[int]:
    raise OSError("the namespace is gone")


async def two_sockets(_netns: str, _family: int, count: int) -> list[int]:
    return [os.open("/dev/null", os.O_RDONLY) for _ in range(min(count, 2))]


def served(slot: int, cookie: int = 77) -> ServedPod:
    told = say.AddPod(slot=slot, cookie=cookie, source=1, addresses=("10.0.0.1",))
    return ServedPod(told, f"/run/netns/pod-{slot}", [os.open("/dev/null", os.O_RDONLY) for _ in range(2)])


workers: list["FakeWorker"] = []


def play(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    async def and_close() -> None:
        try:
            await scenario()
        finally:
            for worker in workers:
                worker.channel.close()
            await asyncio.gather(*(worker.task for worker in workers))
            workers.clear()

    asyncio.run(and_close())


class FakeWorker:
    """The worker's end of a conversation, with what it was told so far."""

    def __init__(self, fleet: Fleet, number: int = 0, holds: tuple[tuple[int, int], ...] = ()) -> None:
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        workers.append(self)
        self.task = asyncio.create_task(fleet.converse(Channel(theirs), lambda _: os.open("/dev/null", os.O_RDONLY)))
        self.tell(say.Hello(worker=number, pid=4711, pods=len(holds)))
        for slot, cookie in holds:
            self.tell(say.HavePod(slot=slot, cookie=cookie), [0, 0])

    def tell(self, message: say.Message, descriptors: list[int] | None = None) -> None:
        self.channel.send(say.encode(message), descriptors)

    async def hear(self) -> say.FromAgent:
        payload, descriptors = await asyncio.wait_for(self.channel.receive(), 2)
        for fd in descriptors:
            os.close(fd)
        return say.decode_from_agent(payload)


def no_signer() -> None:
    return None


def make_fleet(
    sockets: MakeSockets = two_sockets, hear: Hear = lambda _: None, open_signer: OpenSigner = no_signer
) -> Fleet:
    return Fleet(WELCOME, sockets, open_signer, os.open("/dev/null", os.O_RDONLY), hear)


def test_a_worker_that_comes_late_is_told_everything_and_then_that_this_is_all() -> None:
    async def scenario() -> None:
        fleet = make_fleet()
        fleet.add_pod(served(3))
        fleet.set_plans({("10.96.0.1", 80): Plan(address="10.96.0.1", port=80)})
        fleet.synced()
        worker = FakeWorker(fleet)
        kinds = [type(await worker.hear()).__name__ for _ in range(4)]
        assert kinds == ["Welcome", "AddPod", "SetPlans", "Synced"]

    play(scenario)


def test_only_the_difference_of_plans_is_told() -> None:
    async def scenario() -> None:
        fleet = make_fleet()
        fleet.synced()
        worker = FakeWorker(fleet)
        assert [type(await worker.hear()) for _ in range(2)] == [say.Welcome, say.Synced]
        one, two = Plan(address="10.96.0.1", port=80), Plan(address="10.96.0.2", port=80)
        fleet.set_plans({("10.96.0.1", 80): one, ("10.96.0.2", 80): two})
        assert await worker.hear() == say.SetPlans(plans=(one, two))
        changed = msgspec.structs.replace(two, service=9)
        fleet.set_plans({("10.96.0.2", 80): changed})
        assert await worker.hear() == say.SetPlans(plans=(changed,))
        assert await worker.hear() == say.RemovePlans(keys=(("10.96.0.1", 80),))

    play(scenario)


def test_policies_are_told_before_the_pods_that_they_are_about_and_later_the_difference() -> None:
    async def scenario() -> None:
        fleet = make_fleet()
        deny = Authorization(default_deny=True)
        fleet.add_pod(served(3))
        fleet.set_policies({3: deny, 4: deny})
        fleet.synced()
        worker = FakeWorker(fleet)
        heard = [await worker.hear() for _ in range(5)]
        assert [type(each).__name__ for each in heard] == ["Welcome", "SetPolicies", "SetPolicies", "AddPod", "Synced"]
        assert heard[1] == say.SetPolicies(slot=3, authorization=deny)
        fleet.set_policies({3: deny, 5: deny})
        assert await worker.hear() == say.SetPolicies(slot=4, authorization=None)
        assert await worker.hear() == say.SetPolicies(slot=5, authorization=deny)

    play(scenario)


def test_what_policies_said_is_handed_on() -> None:
    async def scenario() -> None:
        heard: list[Ruling] = []
        fleet = make_fleet(hear=heard.extend)
        worker = FakeWorker(fleet)
        await worker.hear()
        ruling = Ruling(policy=1, rule=0, verdict="denied", missed=0, slot=3, client="10.0.0.1", client_port=9, port=80)
        worker.tell(say.Ruled(rulings=(ruling,)))
        while not heard:
            await asyncio.sleep(0)
        assert heard == [ruling]

    play(scenario)


def test_listeners_of_a_worker_that_outlived_the_agent_are_inherited() -> None:
    async def scenario() -> None:
        fleet = make_fleet()
        first, second = FakeWorker(fleet, 0, ((5, 99),)), FakeWorker(fleet, 1, ((5, 99), (6, 98)))
        assert await first.hear() == WELCOME
        assert isinstance(await second.hear(), say.Welcome)
        assert {slot: cookie for slot, (cookie, _) in fleet.inherited.items()} == {5: 99, 6: 98}
        fleet.synced()
        assert fleet.inherited == {}
        assert isinstance(await first.hear(), say.Synced)

    play(scenario)


def test_sockets_are_made_on_demand_and_a_failure_is_told_with_its_reason() -> None:
    async def scenario() -> None:
        for make, expected in ((two_sockets, ""), (no_sockets, "the namespace is gone")):
            fleet = make_fleet(make)
            fleet.add_pod(served(3))
            worker = FakeWorker(fleet)
            await worker.hear()
            await worker.hear()
            worker.tell(say.NeedSockets(slot=3, family=4, count=64))
            assert await worker.hear() == say.Sockets(slot=3, family=4, error=expected)

    play(scenario)


def test_sockets_asked_for_before_a_restarted_agent_knows_the_pod_come_once_it_does() -> None:
    async def scenario() -> None:
        fleet = make_fleet()
        worker = FakeWorker(fleet, holds=((3, 77),))
        assert isinstance(await worker.hear(), say.Welcome)
        worker.tell(say.NeedSockets(slot=3, family=4, count=2))
        await asyncio.sleep(0)
        while not fleet.members[0].early:
            await asyncio.sleep(0)
        fleet.add_pod(served(3))
        heard = [await worker.hear(), await worker.hear()]
        assert [type(message) for message in heard] == [say.AddPod, say.Sockets]

    play(scenario)


def test_an_unknown_destination_passes_through_and_a_known_one_gets_its_plan() -> None:
    async def scenario() -> None:
        fleet = make_fleet()
        plan = Plan(address="10.0.0.9", port=0)
        fleet.set_plans({("10.0.0.9", 0): plan})
        worker = FakeWorker(fleet)
        await worker.hear()
        await worker.hear()
        worker.tell(say.NeedPlan(connection=1, address="10.0.0.9", port=8080))
        assert await worker.hear() == say.SetPlans(plans=(plan,))
        worker.tell(say.NeedPlan(connection=2, address="10.0.0.8", port=8080))
        assert await worker.hear() == say.NoPlan(connection=2)

    play(scenario)


def test_a_worker_learns_whom_to_believe_and_who_it_may_be_before_it_learns_of_pods() -> None:
    async def scenario() -> None:
        fleet = make_fleet()
        fleet.add_pod(served(3))
        fleet.set_trust("cluster.local", (b"root",), ("abcd",))
        fleet.set_identities({"web": (b"leaf", b"middle")})
        worker = FakeWorker(fleet)
        assert isinstance(await worker.hear(), say.Welcome)
        assert await worker.hear() == say.SetTrust(domain="cluster.local", roots=(b"root",), denied=("abcd",))
        assert await worker.hear() == say.SetIdentities(known=(say.Identity(name="web", chain=(b"leaf", b"middle")),))
        assert isinstance(await worker.hear(), say.AddPod)

    play(scenario)


def test_only_the_difference_of_identities_is_told() -> None:
    async def scenario() -> None:
        fleet = make_fleet()
        worker = FakeWorker(fleet)
        await worker.hear()
        fleet.set_identities({"web": (b"1",), "db": (b"2",)})
        fleet.set_identities({"web": (b"1",), "db": (b"2",)})
        fleet.set_identities({"web": (b"3",)})
        fleet.set_trust("cluster.local", (b"root",), ())
        first, second, third = [await worker.hear() for _ in range(3)]
        web, db, new = (
            say.Identity(name=name, chain=(chain,)) for name, chain in (("web", b"1"), ("db", b"2"), ("web", b"3"))
        )
        assert first == say.SetIdentities(known=(web, db))
        assert second == say.SetIdentities(known=(new,), gone=("db",))
        assert third == say.SetTrust(domain="cluster.local", roots=(b"root",))

    play(scenario)


def test_every_worker_has_a_socket_of_its_own_to_the_signer_and_to_each_that_follows() -> None:
    signers: list[str] = []

    def open_signer() -> int | None:
        return os.open(signers[-1], os.O_RDONLY) if signers else None

    async def scenario() -> None:
        fleet = make_fleet(open_signer=open_signer)
        early = FakeWorker(fleet)
        assert isinstance(await early.hear(), say.Welcome)
        signers.append("/dev/null")
        fleet.renew_signer()
        assert await early.hear() == say.SetSigner()
        late = FakeWorker(fleet, 1)
        assert [type(await late.hear()) for _ in range(2)] == [say.Welcome, say.SetSigner]
        fleet.renew_signer()
        assert await early.hear() == await late.hear() == say.SetSigner()

    play(scenario)


def test_a_worker_that_says_much_keeps_nobody_else_from_the_loop() -> None:
    heard: list[object] = []

    async def scenario() -> None:
        fleet = make_fleet(hear=heard.append)
        fleet.set_plans({})
        greedy, other = FakeWorker(fleet), FakeWorker(fleet, 1)
        await greedy.hear()
        await other.hear()
        for _ in range(1000):
            greedy.tell(say.Ruled(rulings=()))
        other.tell(say.NeedPlan(connection=1, address="10.0.0.9", port=80))
        assert isinstance(await other.hear(), say.NoPlan)
        assert len(heard) < 100

    play(scenario)


def test_a_peer_that_is_no_worker_is_turned_away_and_disturbs_nobody() -> None:
    async def scenario() -> None:
        fleet = make_fleet()
        good = FakeWorker(fleet)
        assert isinstance(await good.hear(), say.Welcome)
        ours, theirs = socket.socketpair()
        stranger = Channel(ours)
        stranger.send(b"\xc1 no message")
        await asyncio.wait_for(fleet.converse(Channel(theirs), lambda _: 0), 2)
        assert set(fleet.members) == {0}
        stranger.close()

    play(scenario)


def test_a_question_for_a_plan_waits_for_the_first_plans() -> None:
    """To a new agent that knows nothing yet, "no plan" would be a lie: the connection would go on unprotected."""

    async def scenario() -> None:
        fleet = make_fleet()
        worker = FakeWorker(fleet)
        assert isinstance(await worker.hear(), say.Welcome)
        for number, address in enumerate(("10.96.0.1", "10.96.0.2")):
            worker.tell(say.NeedPlan(connection=number, address=address, port=80))
        worker.tell(say.NeedSockets(slot=0, family=4, count=1))
        while not fleet.members[0].early:
            await asyncio.sleep(0)
        plan = Plan(address="10.96.0.1", port=80)
        fleet.set_plans({("10.96.0.1", 80): plan})
        everything, first, second = [await worker.hear() for _ in range(3)]
        assert everything == first == say.SetPlans(plans=(plan,))
        assert second == say.NoPlan(connection=1)

    play(scenario)


def test_workers_are_told_who_an_address_is_and_who_may_speak_for_it_and_only_what_changed() -> None:
    async def scenario() -> None:
        fleet = make_fleet()
        fleet.set_sources({"10.0.0.1": Source(7), "10.0.0.2": Source(8, "spiffe://x/ns/y/sa/z")})
        worker = FakeWorker(fleet)
        assert isinstance(await worker.hear(), say.Welcome)
        told = await worker.hear()
        assert isinstance(told, say.SetSources)
        assert told.known == (("10.0.0.1", 7, ""), ("10.0.0.2", 8, "spiffe://x/ns/y/sa/z"))
        fleet.set_sources({"10.0.0.1": Source(7, "spiffe://x/ns/y/sa/w")})
        told = await worker.hear()
        assert told == say.SetSources(known=(("10.0.0.1", 7, "spiffe://x/ns/y/sa/w"),), gone=("10.0.0.2",))

    play(scenario)
