"""How connections and processes begin, fail and end: by HBONE when UDP is blocked, resets at a death, drains."""

from __future__ import annotations

import asyncio
import socket

import pytest

from mesh.forward.messages import SetIdentities, SetTrust
from mesh.forward.quic import messages as say
from mesh.forward.quic.messages import Status
from tests.kit.pki import Authority
from tests.kit.street import DOMAIN, Corner, Refusal, Street, spiffe, until
from tests.quic.conftest import Run


async def by_hbone(street: Street, **changes: str) -> str:
    """Why."""
    with pytest.raises(Refusal) as refusal:
        await street.a.ask(street.a.opening(street.b, **changes))
    assert refusal.value.status == Status.BY_HBONE
    return refusal.value.reason


def silent() -> socket.socket:
    """A port where datagrams arrive and nothing answers, as behind a firewall."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


@pytest.mark.usefixtures("quick")
def test_where_udp_is_blocked_it_goes_by_hbone_after_a_moment_and_then_at_once(run: Run) -> None:
    async def scenario() -> None:
        with silent() as blocked:
            async with Street() as street:
                where = f"127.0.0.1:{blocked.getsockname()[1]}"
                loop = asyncio.get_running_loop()
                begin = loop.time()
                assert "did not answer" in await by_hbone(street, node=where)
                first, begin = loop.time() - begin, loop.time()
                await by_hbone(street, node=where)
                assert loop.time() - begin < first / 4
                assert street.a.counts["fallbacks/silence"] == 1
                assert street.a.counts["fallbacks/remembered"] == 1
                assert street.a.counts["handshakes_failed/silence"] == 1
                (way,) = street.a.node._ways()
                assert (way.node, way.way) == (where, "hbone")
                assert "did not answer" in way.reason

    run(scenario())


@pytest.mark.usefixtures("quick")
def test_a_way_that_opens_again_is_found_while_traffic_goes_by_hbone(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            assert street.b.node.parts
            receive = street.b.node.parts.endpoint._received
            street.b.node.parts.endpoint._received = lambda came: None  # type: ignore[method-assign]
            street.b.node.parts.wire.listen(street.b.node.parts.endpoint._received)
            await by_hbone(street)
            street.b.node.parts.wire.listen(receive)

            async def carried() -> bool:
                try:
                    (await street.a.ask(street.a.opening(street.b))).close()
                except Refusal as refusal:
                    return refusal.status != Status.BY_HBONE
                return True

            async with asyncio.timeout(5):
                while not await carried():
                    await asyncio.sleep(0.05)
            assert street.a.node._ways()[0].way == "quic"

    run(scenario())


async def has_its_certificates(corner: Corner) -> None:
    def told() -> bool:
        own = corner.node._credentials.own
        return all(name in own and own[name].chain == each.chain for name, each in corner.certificates.items())

    await until(told, "the process to hear of them")


IMPOSTORS = {
    "who has no such identity": ("name", lambda street: street.b.certificates.clear()),
    "of another authority": ("untrusted", lambda street: street.b.certificates.update(_other(street))),
    "whose certificate has ended": ("expired", lambda street: street.b.certificates.update(_ended(street))),
}


def _other(street: Street) -> dict[str, object]:
    return {street.b.identity: Authority().issue(street.b.identity)}


def _ended(street: Street) -> dict[str, object]:
    from datetime import timedelta

    return {street.b.identity: street.authority.issue(street.b.identity, ends=timedelta(seconds=-1))}


@pytest.mark.parametrize("case", IMPOSTORS)
def test_nothing_is_carried_to_a_node(run: Run, case: str) -> None:
    reason, change = IMPOSTORS[case]

    async def scenario() -> None:
        async with Street() as street:
            gone = tuple(street.b.certificates)
            change(street)
            if not street.b.certificates:
                street.b.node._credentials.know((), gone)
            street.b.tell_identities()
            await has_its_certificates(street.b)
            await by_hbone(street)
            assert street.b.arrivals == []
            ours, theirs = street.a.counts, street.b.counts
            assert f"handshakes_failed/{reason}" in (theirs if reason == "name" else ours)

    run(scenario())


def test_who_is_not_the_expected_one_is_refused(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            other = spiffe("other")
            # It answers to the name, and shows what it has.
            street.b.certificates[other] = street.authority.issue(street.b.identity)
            street.b.tell_identities()
            await has_its_certificates(street.b)
            assert "identity" in await by_hbone(street, target=other)
            assert street.a.counts["handshakes_failed/identity"] == 1

    run(scenario())


def test_without_an_agent_what_stands_goes_on_and_new_handshakes_are_made(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            reader, writer = await street.a.call(street.b)
            street.a.agent.close()
            await until(lambda: street.a.node._channel is None, "the agent's end to be noticed")
            writer.write(b"still")
            assert await reader.readexactly(5) == b"still"
            again, more = await street.a.call(street.b)  # on the connection that stands
            more.write(b"more")
            assert await again.readexactly(4) == b"more"
            other = spiffe("other")
            street.b.certificates[other] = street.authority.issue(other)
            street.b.tell_identities()
            street.b.tell(say.SetHere(pods=(say.Here(address="10.2.0.2", identity=other),)))
            _, new = await street.a.call(street.b, "10.2.0.2:80", target=other)
            for each in (writer, more, new):
                each.close()

    run(scenario())


def test_what_the_signer_refuses_goes_by_hbone(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            street.a.signer.forget(street.a.certificates[street.a.identity])
            await by_hbone(street)
            assert street.a.counts["handshakes_failed/unsigned"] == 1

    run(scenario())


def test_a_process_that_is_replaced_tells_its_peers_that_it_forgot_them(run: Run) -> None:
    """The successor has the same socket and key: a stateless reset, and the other side's connections end at once."""

    async def scenario() -> None:
        async with Street() as street:
            reader, writer = await street.a.call(street.b)
            assert street.b.node.parts
            endpoint = street.b.node.parts.endpoint
            for member in list(endpoint._members.values()):  # as a process that was killed leaves it
                member.tunnel.connection.end(0, "killed")
                member.tunnel.process()
                endpoint._leave(member)
            writer.write(b"hello?")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 2)
            assert street.b.counts["resets/sent"] >= 1
            assert street.a.counts["resets/received"] == 1
            writer.close()
            again, more = await street.a.call(street.b)
            more.write(b"again")
            assert await again.readexactly(5) == b"again"
            more.close()

    run(scenario())


def test_a_node_that_drains_lets_streams_end_and_takes_no_new_ones(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            reader, writer = await street.a.call(street.b)
            street.b.tell(say.DrainQuic())
            assert street.a.node.parts
            (tunnel,) = street.a.node.parts.endpoint.tunnels
            await until(lambda: tunnel.leaving, "GOAWAY to arrive")
            writer.write(b"still served")
            assert await reader.readexactly(12) == b"still served"
            assert not street.b.node.drained.is_set()
            await by_hbone(street)
            writer.close()
            assert await reader.read() == b""
            await asyncio.wait_for(street.b.node.drained.wait(), 5)

    run(scenario())


def test_who_is_denied_loses_its_live_connections_and_nobody_else_does(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            friend = spiffe("friend")
            street.a.certificates[friend] = street.authority.issue(friend)
            street.a.tell_identities()
            reader, writer = await street.a.call(street.b)
            friendly, more = await street.a.call(street.b, source=friend)
            denied = street.a.certificates[street.a.identity].serial
            street.b.tell(SetTrust(domain=DOMAIN, roots=street.b.roots, denied=(denied,)))
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 2)
            more.write(b"mine lives")
            assert await friendly.readexactly(10) == b"mine lives"
            await by_hbone(street)
            assert street.b.counts["handshakes_failed/denied"] == 1
            for each in (writer, more):
                each.close()

    run(scenario())


async def only_finishes(street: Street, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The tunnel between them: what is under way in it goes on, and nothing new begins."""
    assert street.a.node.parts
    (tunnel,) = street.a.node.parts.endpoint.tunnels
    await until(lambda: tunnel.leaving, "the client to know")
    writer.write(b"under way")
    assert await reader.readexactly(9) == b"under way"
    await by_hbone(street)
    writer.close()


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_root_that_is_believed_no_more_ends_nothing_that_stands_and_begins_nothing_new(run: Run, side: str) -> None:
    """As for HBONE: what is under way was judged when it began."""

    async def scenario() -> None:
        async with Street() as street:
            reader, writer = await street.a.call(street.b)
            corner = getattr(street, side)
            corner.tell(SetTrust(domain=DOMAIN, roots=(Authority("another").root.der,)))
            await until(lambda: corner.counts.get("connections_left/distrusted"), "it to be judged")
            await only_finishes(street, reader, writer)
            await until(lambda: street.a.node._levels()["connections"] == 0, "it to end with its last stream")

    run(scenario())


def test_an_identity_that_left_the_node_takes_nothing_new_and_what_stands_goes_on(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            reader, writer = await street.a.call(street.b)
            street.b.tell(SetIdentities(known=(), gone=(street.b.identity,)))
            await only_finishes(street, reader, writer)

    run(scenario())


def test_a_new_root_beside_the_old_one_disturbs_nothing(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            reader, writer = await street.a.call(street.b)
            new = Authority("new root")
            for corner in (street.a, street.b):
                corner.roots = (*corner.roots, new.root.der)
                corner.tell(SetTrust(domain=DOMAIN, roots=corner.roots))
            street.a.certificates[street.a.identity] = new.issue(street.a.identity)
            street.a.tell_identities()
            await has_its_certificates(street.a)
            writer.write(b"goes on")
            assert await reader.readexactly(7) == b"goes on"
            friend = spiffe("friend")  # a connection that must be made anew, between one root and the other
            street.b.certificates[friend] = street.authority.issue(friend)
            street.b.tell_identities()
            street.b.tell(say.SetHere(pods=(say.Here(address=street.b.address, identity=friend),)))
            again, more = await street.a.call(street.b, target=friend)
            more.write(b"new")
            assert await again.readexactly(3) == b"new"
            for each in (writer, more):
                each.close()

    run(scenario())


def test_the_death_of_the_process_resets_what_it_carried(run: Run) -> None:
    """Closing its sockets is all that its death does."""

    async def scenario() -> None:
        async with Street() as street:
            reader, writer = await street.a.call(street.b)
            assert street.a.node.parts
            for tunnel in street.a.node.parts.endpoint.tunnels:
                for pipe in tunnel._pipes.values():
                    pipe._read(False)
                    pipe._sock.close()
                    pipe.closed = True
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 2)
            writer.close()

    run(scenario())
