"""Frames with descriptors arrive whole and in order, however the bytes are cut; a bad peer is closed, not believed."""

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mesh.aio.channel import DESCRIPTORS_MAX, HEAD, Channel, ChannelClosed


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_payloads_and_descriptors_arrive_in_order() -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        sender, receiver = Channel(left), Channel(right)
        reading, writing = os.pipe()
        sender.send(b"first")
        sender.send(b"second", [writing])
        sender.send(b"", [reading, writing])
        assert await receiver.receive() == (b"first", [])
        payload, (copy,) = await receiver.receive()
        os.write(copy, b"through")
        assert (payload, os.read(reading, 10)) == (b"second", b"through")
        payload, more = await receiver.receive()
        assert (payload, len(more)) == (b"", 2)
        for fd in [reading, writing, copy, *more]:
            os.close(fd)
        sender.close()
        receiver.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_frames_may_be_cut_anywhere(step: int) -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        receiver = Channel(right)
        bytes_sent = HEAD.pack(4, 0) + b"abcd" + HEAD.pack(0, 0) + HEAD.pack(2, 0) + b"xy"
        for start in range(0, len(bytes_sent), step):
            left.send(bytes_sent[start : start + step])
            await asyncio.sleep(0)
        assert [(await receiver.receive())[0] for _ in range(3)] == [b"abcd", b"", b"xy"]
        left.close()
        with pytest.raises(ChannelClosed, match="gone"):
            await receiver.receive()

    asyncio.run(scenario())


def test_a_large_backlog_drains_when_the_peer_reads_and_leaks_nothing() -> None:
    async def scenario() -> None:
        before = descriptors()
        left, right = socket.socketpair()
        sender, receiver = Channel(left), Channel(right)
        for number in range(50):
            sender.send(bytes([number]) * 100_000, [0] * (number % 3))
        for number in range(50):
            payload, fds = await receiver.receive()
            assert (payload[0], len(payload), len(fds)) == (number, 100_000, number % 3)
            for fd in fds:
                os.close(fd)
        sender.send(b"never read", [0] * DESCRIPTORS_MAX)
        sender.close()
        receiver.close()
        assert descriptors() == before

    asyncio.run(scenario())


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.open("/dev/null", os.O_RDONLY)  # the lowest free number, and with the limit there the last one
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(spare)


def test_what_goes_at_once_needs_no_free_descriptor() -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        sender, receiver = Channel(left), Channel(right)
        reading, writing = os.pipe()
        with no_more_descriptors():
            sender.send(b"both", [reading, writing])
        payload, copies = await receiver.receive()
        assert (payload, len(copies)) == (b"both", 2)
        for fd in [reading, writing, *copies]:
            os.close(fd)
        sender.close()
        receiver.close()

    asyncio.run(scenario())


def test_a_message_that_must_wait_and_finds_no_descriptor_ends_the_channel_and_leaks_nothing() -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        sender, receiver = Channel(left), Channel(right)
        sender.send(b"x" * 10_000_000)  # more than fits: what follows waits
        before = descriptors()
        with no_more_descriptors(), pytest.raises(ChannelClosed, match="finds no descriptor"):
            sender.send(b"both", [0, 0])
        assert sender.closed
        assert descriptors() == before - 1, "its own socket"
        receiver.close()

    asyncio.run(scenario())


def test_a_frame_that_is_none_closes_the_channel() -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        receiver = Channel(right)
        left.send(HEAD.pack(0xFFFFFFFF, 0))
        with pytest.raises(ChannelClosed, match="no frame"):
            await receiver.receive()
        assert receiver.closed
        left.close()

    asyncio.run(scenario())


def test_missing_descriptors_are_noticed() -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        receiver = Channel(right)
        left.send(HEAD.pack(1, 1) + b"x")
        with pytest.raises(ChannelClosed, match="descriptors were lost"):
            await receiver.receive()
        left.close()

    asyncio.run(scenario())


def test_sending_to_a_dead_peer_says_so() -> None:
    async def scenario() -> None:
        left, right = socket.socketpair()
        sender = Channel(left)
        right.close()
        with pytest.raises(ChannelClosed):
            for _ in range(10):
                sender.send(b"x")
                await asyncio.sleep(0)

    asyncio.run(scenario())
