"""Connections of applications through two QUIC processes: their bytes, ends and resets, and who asked for whom."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from mesh.forward.quic.messages import Here, Opening, SetHere, Status
from tests.kit.street import Refusal, Street, spiffe, until
from tests.quic.conftest import Run


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def test_what_a_client_says_arrives_and_the_answer_too(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            reader, writer = await street.a.call(street.b)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            writer.close()
            assert street.b.arrivals == [
                Opening(
                    source=spiffe("a"),
                    target=spiffe("b"),
                    destination="10.2.0.1:80",
                    client="10.1.0.1:40000",
                    node=street.a.where,
                )
            ]
            assert street.a.counts["handshakes/client"] == street.b.counts["handshakes/server"] == 1
            assert street.a.counts["bytes/sent"] == street.b.counts["bytes/received"] == 5

    run(scenario())


def test_a_client_that_ends_its_half_still_gets_the_answer(run: Run) -> None:
    async def count(opening: Opening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(len(await reader.read())).encode())
        writer.close()

    async def scenario() -> None:
        async with Street() as street:
            street.b.app = count
            reader, writer = await street.a.call(street.b)
            writer.write(bytes(300_000))
            writer.write_eof()
            assert await reader.read() == b"300000"
            writer.close()
            await until(
                lambda: street.a.node._levels()["streams"] == street.b.node._levels()["streams"] == 0, "the end"
            )

    run(scenario())


def test_a_server_that_ends_its_half_still_hears_the_client(run: Run) -> None:
    heard: list[bytes] = []

    async def leave_first(opening: Opening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        heard.append(await reader.read())
        writer.close()

    async def scenario() -> None:
        async with Street() as street:
            street.b.app = leave_first
            reader, writer = await street.a.call(street.b)
            assert await reader.read() == b""
            writer.write(b"after your end")
            writer.close()
            await until(lambda: heard == [b"after your end"], "the server to hear it")

    run(scenario())


@pytest.mark.parametrize("half_closed", [False, True])
def test_an_answer_that_is_cut_is_a_reset_and_no_end(run: Run, half_closed: bool) -> None:
    async def crash(opening: Opening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (reader.read() if half_closed else reader.read(5))
        writer.write(b"the first half of")
        await writer.drain()
        await asyncio.sleep(0.05)
        reset(writer)

    async def scenario() -> None:
        async with Street() as street:
            street.b.app = crash
            reader, writer = await street.a.call(street.b)
            writer.write(b"query")
            if half_closed:
                writer.write_eof()
            with pytest.raises(ConnectionResetError):
                assert await reader.read() == b"the first half of", "an end came, and it was none"
            writer.close()

    run(scenario())


def test_a_client_that_resets_is_heard_by_the_server(run: Run) -> None:
    ends: list[str] = []

    async def wait(opening: Opening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
            ends.append("end")
        except ConnectionResetError:
            ends.append("reset")
        writer.close()

    async def scenario() -> None:
        async with Street() as street:
            street.b.app = wait
            reader, writer = await street.a.call(street.b)
            writer.write(b"half a request")
            await asyncio.sleep(0.05)
            reset(writer)
            await until(lambda: ends, "the server to notice")
            assert ends == ["reset"]
            assert reader is not None

    run(scenario())


def test_many_connections_at_once_are_each_its_own(run: Run) -> None:
    async def one(street: Street, number: int) -> None:
        reader, writer = await street.a.call(street.b)
        said = f"connection {number} ".encode() * 1000
        writer.write(said)
        writer.write_eof()
        assert await reader.read() == said
        writer.close()

    async def scenario() -> None:
        async with Street() as street:
            await asyncio.gather(*(one(street, number) for number in range(250)))
            tunnels = street.a.counts["handshakes/client"]
            assert tunnels == 3, "100 streams per connection, and no more connections than that takes"
            assert street.a.counts["streams/client"] == street.b.counts["streams/server"] == 250

    run(scenario())


def test_a_slow_reader_stops_its_own_producer_and_nobody_else(run: Run) -> None:
    written = 0

    async def produce(opening: Opening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        if opening.destination.endswith(":81"):
            writer.write(await reader.read(100))
            return
        writer.transport.set_write_buffer_limits(high=65536)
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            written += 65536

    async def scenario() -> None:
        async with Street() as street:
            street.b.app = produce
            stalled = await street.a.ask(street.a.opening(street.b))
            before = -1
            while written != before:  # until nothing moves any more
                before = written
                await asyncio.sleep(0.3)
            assert 0 < written < 6 << 20, "what is held for one reader has an end"
            reader, writer = await street.a.call(street.b, "10.2.0.1:81")
            writer.write(b"I am served")
            assert await reader.readexactly(11) == b"I am served"
            writer.close()
            read = 0
            loop = asyncio.get_running_loop()
            while read < 20 << 20:
                read += len(await loop.sock_recv(stalled, 1 << 20))
            stalled.close()
            assert written > 20 << 20, "it went on as soon as it was read"

    run(scenario())


REFUSALS = {
    "an address of nobody here": ({"destination": "10.2.0.9:80"}, Status.UNREACHABLE, "requests_bad/nobody"),
    "a port of the mesh itself": ({"destination": "10.2.0.1:15006"}, Status.BAD_REQUEST, "requests_bad/authority"),
    "no address": ({"destination": "web.default:80"}, Status.BAD_REQUEST, "requests_bad/authority"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_other_node_refuses_is_refused_here_with_its_status(run: Run, case: str) -> None:
    changes, status, counter = REFUSALS[case]

    async def scenario() -> None:
        async with Street() as street:
            with pytest.raises(Refusal) as refusal:
                await street.a.ask(street.a.opening(street.b, **changes))
            assert refusal.value.status == status
            assert street.b.counts[counter] == 1
            assert street.b.arrivals == []

    run(scenario())


def test_an_address_of_another_pod_of_that_node_is_refused(run: Run) -> None:
    """The tunnel was made to one identity; by it nobody else is reached."""

    async def scenario() -> None:
        async with Street() as street:
            street.b.node.obey(_here(street, ("10.2.0.2", spiffe("other"))), [])
            with pytest.raises(Refusal) as refusal:
                await street.a.ask(street.a.opening(street.b, "10.2.0.2:80"))
            assert refusal.value.status == Status.BAD_REQUEST
            assert street.b.counts["requests_bad/not_who"] == 1

    run(scenario())


def _here(street: Street, *more: tuple[str, str]) -> SetHere:
    pods = ((street.b.address, street.b.identity), *more)
    return SetHere(pods=tuple(Here(address=address, identity=identity) for address, identity in pods))


@pytest.mark.parametrize("status", [Status.DENIED, Status.UNREACHABLE])
def test_what_the_worker_there_answers_is_the_answer_here(run: Run, status: Status) -> None:
    async def scenario() -> None:
        async with Street() as street:
            street.b.status = status
            with pytest.raises(Refusal) as refusal:
                await street.a.ask(street.a.opening(street.b))
            assert refusal.value.status == status
            assert len(street.b.arrivals) == 1

    run(scenario())


def test_without_a_worker_there_the_answer_is_503(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            assert street.b.node.parts
            for worker in list(street.b.node.parts.door._workers):
                street.b.node.parts.door._workers.remove(worker)
            with pytest.raises(Refusal) as refusal:
                await street.a.ask(street.a.opening(street.b))
            assert refusal.value.status == Status.UNREACHABLE
            assert street.b.counts["refused/no_worker"] == 1

    run(scenario())


def test_a_worker_that_dies_before_it_answers_keeps_nobody_waiting(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:

            def vanish(opening: Opening, fd: int, answer: object) -> None:
                socket.socket(fileno=fd).close()
                assert street.b.caller._channel
                street.b.caller._channel.close()

            street.b.caller._arrived = vanish
            with pytest.raises(Refusal) as refusal:
                await street.a.ask(street.a.opening(street.b))
            assert refusal.value.status == Status.UNREACHABLE

    run(scenario())


def test_the_process_says_how_it_is_twice_a_second(run: Run) -> None:
    async def scenario() -> None:
        async with Street() as street:
            reader, writer = await street.a.call(street.b)
            await until(lambda: street.a.reports and street.a.reports[-1].levels.get("streams"), "a report")
            last = street.a.reports[-1]
            assert last.levels == {"connections": 1, "streams": 1, "workers": 1}
            assert [(way.node, way.way) for way in last.ways] == [(street.b.where, "quic")]
            writer.close()
            assert reader is not None

    run(scenario())
