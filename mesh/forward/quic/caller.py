"""A worker's side of the QUIC process: connections asked for and handed over. It needs no aioquic.

While the process is away everything goes by HBONE, at once; what was asked and not answered too. Its going resets what
it carried (see `local`), which nobody has to do here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec

from mesh.aio.channel import Channel, ChannelClosed, close_all
from mesh.forward.messages import Message
from mesh.forward.quic import messages as say
from mesh.forward.quic.messages import Opening, Status

log = logging.getLogger("seine.worker")
DOOR = "tunnels.sock"  # beside the agent's
RETRY_SECONDS = 0.5

Done = Callable[[int, str, int], None]  # status, reason, descriptor (-1: none), which is the caller's
Arrived = Callable[[Opening, int, Callable[[int], None]], None]  # with the descriptor, and how to answer


class Caller:
    """`arrived` is called for each connection that another node makes to a pod of this one."""

    def __init__(self, path: Path, worker: int, arrived: Arrived) -> None:
        self._path, self._worker, self._arrived = path, worker, arrived
        self._channel: Channel | None = None
        self._jobs = count(1)
        self._asked: dict[int, Done] = {}

    @property
    def is_connected(self) -> bool:
        return self._channel is not None

    async def run(self) -> None:
        """For ever."""
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, str(self._path))
            except OSError:  # it is not there, and need not be
                sock.close()
            else:
                await self._converse(Channel(sock))
            await asyncio.sleep(RETRY_SECONDS)

    async def _converse(self, channel: Channel) -> None:
        self._channel = channel
        try:
            channel.send(say.encode(say.Serve(worker=self._worker)))
            while True:
                self._obey(*await channel.receive())
        except (ChannelClosed, msgspec.DecodeError) as end:
            log.info("the QUIC process is away (%s); connections to other nodes go by HBONE", end)
        finally:
            self._channel = None
            channel.close()
            asked, self._asked = self._asked, {}
            for done in asked.values():
                done(Status.BY_HBONE, "the QUIC process ended", -1)

    def _obey(self, payload: bytes, descriptors: list[int]) -> None:
        """One descriptor at most belongs to a message; whatever else was sent is not kept."""
        fd = descriptors.pop(0) if descriptors else -1
        close_all(descriptors)
        try:
            message = say.decode_from_door(payload)
        except msgspec.DecodeError:
            close_all([fd] if fd >= 0 else [])
            raise
        match message:
            case say.Opened(job=job, status=status, reason=reason):
                done = self._asked.pop(job, None)
                if done is not None:
                    done(status, reason, fd)
                elif fd >= 0:
                    os.close(fd)
            case say.Arrive(job=job, opening=opening):
                self._arrived(opening, fd, lambda status: self._say(say.Answer(job=job, status=status)))

    def _say(self, message: Message) -> None:
        if self._channel is not None:
            try:
                self._channel.send(say.encode(message))
            except ChannelClosed:
                log.debug("the QUIC process ended before it was told")

    def open(self, opening: Opening, done: Done) -> None:
        """`done` is called once, now or later."""
        if self._channel is None:
            done(Status.BY_HBONE, "the QUIC process is not there", -1)
            return
        job = next(self._jobs)
        self._asked[job] = done
        self._say(say.Open(job=job, opening=opening))
