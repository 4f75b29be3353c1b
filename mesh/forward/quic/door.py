"""The workers' door: a Unix socket where each of them says hello once, asks for connections and is handed others.

What a worker asks for and was not answered is given up when it goes; what it was handed and has not answered is
refused, so that another node never waits for a dead worker. Arrivals go to the workers in turn.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import msgspec

from mesh.aio.channel import Channel, ChannelClosed
from mesh.aio.doorway import Doorway
from mesh.forward.quic import messages as say
from mesh.forward.quic.messages import Opening, Status

log = logging.getLogger("seine.quic")


class Opener(Protocol):
    def open(self, opening: Opening, done: Callable[[int, str, socket.socket | None], None]) -> Callable[[], None]: ...


@dataclass(slots=True, eq=False)
class _Worker:
    channel: Channel
    asked: dict[int, Callable[[], None]] = field(default_factory=dict)  # job -> give up
    handed: dict[int, Callable[[int], None]] = field(default_factory=dict)  # job -> its answer


class Door:
    def __init__(self, listener: socket.socket) -> None:
        self._doorway = Doorway(listener, lambda sock, _: self._converse(Channel(sock)), log, "a worker")
        self._workers: list[_Worker] = []
        self._jobs = count(1)
        self._turn = 0
        self._opener: Opener | None = None

    @property
    def workers(self) -> int:
        return len(self._workers)

    def begin(self, opener: Opener) -> None:
        self._opener = opener
        self._doorway.open()

    async def _converse(self, channel: Channel) -> None:
        worker = _Worker(channel)
        try:
            while True:
                payload, descriptors = await channel.receive()
                for fd in descriptors:
                    os.close(fd)  # nothing that a worker says has one
                self._obey(worker, say.decode_to_door(payload))
        except (ChannelClosed, msgspec.DecodeError) as end:
            log.info("a worker left the QUIC process: %s", end)
        finally:
            channel.close()
            self._forget(worker)

    def _obey(self, worker: _Worker, message: say.ToDoor) -> None:
        match message:
            case say.Serve():
                self._workers.append(worker)
            case say.Open(job=job, opening=opening):
                self._open(worker, job, opening)
            case say.Answer(job=job, status=status):
                answer = worker.handed.pop(job, None)
                if answer is not None:
                    answer(status)

    def _open(self, worker: _Worker, job: int, opening: Opening) -> None:
        assert self._opener is not None
        answered = False

        def done(status: int, reason: str, given: socket.socket | None) -> None:
            nonlocal answered
            answered = True
            worker.asked.pop(job, None)
            descriptors = [given.fileno()] if given is not None else []
            try:
                worker.channel.send(say.encode(say.Opened(job=job, status=status, reason=reason)), descriptors)
            except ChannelClosed:
                log.debug("a worker left before its connection came")
            if given is not None:
                given.close()

        give_up = self._opener.open(opening, done)
        if not answered:
            worker.asked[job] = give_up

    def arrive(self, opening: Opening, fd: int, answered: Callable[[int], None]) -> bool:
        if not self._workers:
            return False
        self._turn = (self._turn + 1) % len(self._workers)
        worker, job = self._workers[self._turn], next(self._jobs)
        try:
            worker.channel.send(say.encode(say.Arrive(job=job, opening=opening)), [fd])
        except ChannelClosed:
            return False
        worker.handed[job] = answered
        return True

    def _forget(self, worker: _Worker) -> None:
        if worker in self._workers:
            self._workers.remove(worker)
        for give_up in list(worker.asked.values()):
            give_up()
        for answer in list(worker.handed.values()):
            answer(Status.UNREACHABLE)

    def close(self) -> None:
        self._doorway.close()
