"""The agent's side of the QUIC process: its sockets made, its state told, its counters kept.

It is wanted while some MeshNode asks for QUIC, ours or a peer's. Told is state, not history: a process that
(re)connects is told all of it. The UDP socket stays with us as well, so that datagrams wait for a successor; the
workers' door does not: while nobody is behind it, workers are refused at once and go by HBONE. It needs no aioquic.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import msgspec

from mesh.aio.channel import Channel, ChannelClosed, close_all
from mesh.config import TUNNEL_PORT
from mesh.forward import programs
from mesh.forward.fleet import OpenSigner
from mesh.forward.messages import Identity, Message, SetIdentities, SetSigner, SetTrust
from mesh.forward.quic import messages as say
from mesh.forward.quic.caller import DOOR
from mesh.forward.quic.wire import open_socket
from mesh.forward.supervisor import Charge, Present

log = logging.getLogger("seine.agent")
HUNG_CHECKS = 12  # of 0.25 s each without a report, of which there are two a second: it computes more than a worker
DATAGRAM_BYTES = 1350  # passes VPNs between clusters (WireGuard's 1420 less 48); smaller ones are tried else


class Member:
    """The connected process."""

    def __init__(self, pid: int, channel: Channel) -> None:
        self.pid, self.channel = pid, channel
        self.report = say.ReportQuic(counts={}, levels={}, ways=())
        self.reports = 0

    def say(self, message: Message, descriptors: list[int] | None = None) -> None:
        try:
            self.channel.send(say.encode(message), descriptors)
        except ChannelClosed:
            pass  # its conversation ends by itself, and whoever follows is told everything


class Desk(Charge):
    """Kept alive by the supervisor. `open_signer`: as the fleet's."""

    def __init__(
        self,
        node: str,
        run_dir: Path,
        uid: int,
        drain_seconds: float,
        open_signer: OpenSigner,
        open_udp: Callable[[int], socket.socket] = open_socket,
        installed: bool = find_spec("aioquic") is not None,
    ) -> None:
        super().__init__(programs.quic(run_dir), HUNG_CHECKS)
        self.wanted = False
        self._decided = False  # after a start nobody knows yet: one that outlived our predecessor goes on
        self._node, self._uid, self._drain_seconds = node, uid, drain_seconds
        self._open_signer, self._open_udp, self._installed = open_signer, open_udp, installed
        self._door = run_dir / DOOR
        self._reset_key = secrets.token_bytes(32)
        self._udp: socket.socket | None = None
        self._trust: SetTrust | None = None
        self._identities: dict[str, Identity] = {}
        self._here: tuple[say.Here, ...] = ()
        self._former: Counter[str] = Counter()  # counted by processes that are gone
        self.member: Member | None = None
        self.problem = ""  # a sentence: why it cannot serve

    # --- as the supervisor sees it

    def present(self) -> Present | None:
        return self.member

    def beat(self) -> int:
        return self.member.reports if self.member else 0

    def want(self, asked: bool) -> None:
        """Start it, or let it end when its last stream has."""
        wanted = asked and self._installed
        if not asked:
            self.problem = ""
        elif not wanted:
            self.problem = (
                "QUIC is asked for and aioquic is not installed (seine-mesh[quic]): all goes by HBONE instead"
            )
        if self._decided and wanted == self.wanted:
            return
        self._decided, self.wanted = True, wanted
        if not wanted and self.member is not None:
            self.member.say(say.DrainQuic())

    # --- what it should know

    def set_trust(self, domain: str, roots: tuple[bytes, ...], denied: tuple[str, ...]) -> None:
        self._trust = SetTrust(domain=domain, roots=roots, denied=denied)
        self._say(self._trust)

    def set_identities(self, chains: Mapping[str, tuple[bytes, ...]]) -> None:
        now = {name: Identity(name=name, chain=chain) for name, chain in chains.items()}
        known = tuple(each for name, each in now.items() if self._identities.get(name) != each)
        gone = tuple(self._identities.keys() - now.keys())
        self._identities = now
        if known or gone:
            self._say(SetIdentities(known=known, gone=gone))

    def set_here(self, pods: Mapping[str, str]) -> None:
        """Identity by address of each pod of this node that has one."""
        here = tuple(say.Here(address=address, identity=identity) for address, identity in sorted(pods.items()))
        if here != self._here:
            self._here = here
            self._say(say.SetHere(pods=here))

    def renew_signer(self) -> None:
        """Another one is there."""
        if self.member is not None:
            self._give_signer(self.member)

    def _give_signer(self, member: Member) -> None:
        if (fd := self._open_signer()) is not None:
            member.say(SetSigner(), [fd])
            os.close(fd)

    def _say(self, message: Message) -> None:
        if self.member is not None:
            self.member.say(message)

    # --- the conversation

    async def converse(self, channel: Channel, pid: int) -> None:
        """Serve one process until it is gone; `pid` as the kernel tells it here."""
        member: Member | None = None
        try:
            hello, descriptors = await _receive(channel)
            if not isinstance(hello, say.HelloQuic):
                raise ChannelClosed(f"it began with {type(hello).__name__} instead of HelloQuic")
            member = self._join(hello, channel, pid, descriptors)
            while True:
                message, descriptors = await _receive(channel)
                close_all(descriptors)
                self._answer(member, message)
        except (ChannelClosed, msgspec.DecodeError) as end:
            log.info("the QUIC process left: %s", end)
        except OSError as error:
            self.problem = f"UDP port {TUNNEL_PORT} cannot be had ({error}): all goes by HBONE instead of QUIC"
            log.error("%s", self.problem)
            await asyncio.sleep(1)  # it knocks again at once
        finally:
            channel.close()
            if member is not None and self.member is member:
                self._leave(member)

    def _join(self, hello: say.HelloQuic, channel: Channel, pid: int, descriptors: list[int]) -> Member:
        """Raises OSError when a socket cannot be made."""
        sockets = self._sockets(hello.reset_key, descriptors)
        if self.member is not None:
            self.member.channel.close()
            self._leave(self.member)
        member = self.member = Member(pid, channel)
        self.problem = ""
        welcome = say.WelcomeQuic(
            node=self._node,
            drain_seconds=self._drain_seconds,
            reset_key=self._reset_key,
            datagram_bytes=DATAGRAM_BYTES,
        )
        member.say(welcome, [each.fileno() for each in sockets])
        for each in sockets[1:]:  # the door is its alone
            each.close()
        self._give_signer(member)
        if self._trust is not None:
            member.say(self._trust)
        member.say(SetIdentities(known=tuple(self._identities.values())))
        member.say(say.SetHere(pods=self._here))
        if self._decided and not self.wanted:
            member.say(say.DrainQuic())
        return member

    def _sockets(self, reset_key: bytes, descriptors: list[int]) -> list[socket.socket]:
        """What a process that has none is given; socket and key of one that outlived our predecessor are kept."""
        if reset_key:
            self._reset_key = reset_key
            for udp in [socket.socket(fileno=fd) for fd in descriptors]:
                if self._udp is not None:
                    self._udp.close()
                self._udp = udp
            return []
        close_all(descriptors)
        if self._udp is None:
            self._udp = self._open_udp(TUNNEL_PORT)
        return [self._udp, self._open_door()]

    def _open_door(self) -> socket.socket:
        self._door.unlink(missing_ok=True)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            door.bind(str(self._door))
            if os.geteuid() == 0:
                os.chown(self._door, self._uid, self._uid)
            self._door.chmod(0o600)
            door.listen(16)
        except OSError:
            door.close()
            raise
        return door

    def _answer(self, member: Member, message: say.FromQuic) -> None:
        match message:
            case say.ReportQuic():
                member.report = message
                member.reports += 1

    def _leave(self, member: Member) -> None:
        self._former.update(member.report.counts)
        self.member = None

    # --- what is known of it

    @property
    def counts(self) -> dict[str, int]:
        """Since the agent began, of all its processes: they never fall."""
        now = self.member.report.counts if self.member else {}
        return dict(sorted((self._former + Counter(now)).items()))

    @property
    def levels(self) -> dict[str, int]:
        return self.member.report.levels if self.member else {}

    @property
    def ways(self) -> tuple[say.NodeWay, ...]:
        return self.member.report.ways if self.member else ()

    def close(self) -> None:
        if self._udp is not None:
            self._udp.close()


async def _receive(channel: Channel) -> tuple[say.FromQuic, list[int]]:
    payload, descriptors = await channel.receive()
    return say.decode_from_quic(payload), descriptors
