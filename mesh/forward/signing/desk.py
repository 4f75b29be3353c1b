"""The agent's side of the signer: kept alive, given the node's keys, and those who ask introduced to it.

Told is state: a signer that (re)connects gets all keys again. One that outlived our predecessor keeps the keys that it
has until ours are complete: pods that have no new certificate yet go on with the old one. A key that is not used any
more is forgotten a little later, when the handshakes that were under way with it are over.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mesh.aio.channel import Channel, ChannelClosed
from mesh.forward import programs
from mesh.forward.signing import protocol
from mesh.forward.signing.protocol import Report
from mesh.forward.supervisor import Charge, Present

log = logging.getLogger("seine.agent")
HUNG_CHECKS = 12  # of 0.25 s each without a report, of which there are two a second
FORGET_SECONDS = 6.0  # handshakes under way end within 5


class Member:
    """The connected process."""

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid, self.channel = pid, channel
        self.report: Report | None = None
        self.reports = 0

    def say(self, message: bytes, descriptors: list[int] | None = None) -> None:
        try:
            self.channel.send(message, descriptors)
        except ChannelClosed:
            pass  # its conversation ends by itself, and whoever follows is told everything


class Desk(Charge):
    """`changed` is called when another signer is there: who asks is to be given another socket."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(programs.signer(run_dir), HUNG_CHECKS)
        self.changed: Callable[[], None] = lambda: None
        self._keys: dict[bytes, bytes] = {}  # by name, see cext/signing.h
        self._complete = False
        self._former: Counter[str] = Counter()  # counted by processes that are gone
        self.member: Member | None = None

    # --- as the supervisor sees it

    def present(self) -> Present | None:
        return self.member

    def beat(self) -> int:
        return self.member.reports if self.member else 0

    # --- keys

    def set_keys(self, keys: Mapping[bytes, bytes], complete: bool) -> None:
        """Private keys as DER, by name. `complete`: every identity of the node has one."""
        new = [secret for name, secret in keys.items() if name not in self._keys]
        gone = self._keys.keys() - keys.keys()
        completed = complete and not self._complete
        self._keys, self._complete = dict(keys), complete
        if self.member is None:
            return
        for secret in new:
            self.member.say(protocol.add(secret))
        for name in gone:
            self._later(partial(self._forget, name))
        if completed:
            self._later(self._keep)

    def _later(self, what: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(FORGET_SECONDS, what)

    def _forget(self, name: bytes) -> None:
        if self.member is not None and name not in self._keys:
            self.member.say(protocol.forget(name))

    def _keep(self) -> None:
        if self.member is not None and self._complete:
            self.member.say(protocol.keep())

    # --- who asks

    def open(self) -> int | None:
        """A socket on which handshakes' signatures are asked for, the caller's; None while there is no signer."""
        if self.member is None:
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.member.say(protocol.serve(), [theirs.fileno()])
        return ours.detach()

    # --- the conversation

    async def converse(self, channel: Channel, pid: int) -> None:
        """Serve one process until it is gone; `pid` as the kernel tells it here."""
        member: Member | None = None
        try:
            if await _report(channel) is None:
                channel.send(protocol.welcome())  # of another version: it ends when it hears ours
                raise ChannelClosed("it is of another version")
            member = self._join(channel, pid)
            while True:
                self._hear(member, await _report(channel))
        except ChannelClosed as end:
            log.info("the signer left: %s", end)
        finally:
            channel.close()
            if member is not None and self.member is member:
                self._leave(member)

    def _join(self, channel: Channel, pid: int) -> Member:
        if self.member is not None:
            self.member.channel.close()
            self._leave(self.member)
        member = self.member = Member(pid, channel)
        member.say(protocol.welcome())
        for secret in self._keys.values():
            member.say(protocol.add(secret))
        if self._complete:
            self._later(self._keep)
        self.changed()
        return member

    def _hear(self, member: Member, report: Report | None) -> None:
        if report is None:
            raise ChannelClosed("it said what is no report")
        before = member.report
        member.report = report
        member.reports += 1
        refused = _refusals(report) - (_refusals(before) if before else 0)
        if refused > 0:
            log.warning(
                "somebody asked for signatures that the signer refused: %d now, %r in all", refused, report.results
            )

    def _leave(self, member: Member) -> None:
        self._former.update(_counts(member.report))
        self.member = None

    # --- what is known of it

    @property
    def counts(self) -> dict[str, int]:
        """Answers by result since the agent began, of all its signers: they never fall. `cut`: see Report."""
        return dict(self._former + Counter(_counts(self.member.report if self.member else None)))

    @property
    def keys(self) -> int:
        report = self.member.report if self.member else None
        return report.keys if report else 0


async def _report(channel: Channel) -> Report | None:
    payload, descriptors = await channel.receive()
    for fd in descriptors:
        os.close(fd)
    report = protocol.read_report(payload)
    return report if report and report.version == protocol.VERSION else None


def _refusals(report: Report) -> int:
    return sum(count for result, count in report.results.items() if result != "signed")


def _counts(report: Report | None) -> dict[str, int]:
    return {**report.results, "cut": report.cut} if report else {}
