"""The authority itself, kept in files: of a directory, for a node alone or for agents that share it; or of a cluster.

With a directory every agent is the authority: it reads the root's key, signs for its own node, and takes the next step
of a rotation when all are ready for it; the lock makes them take turns. In a cluster the controller is: its replicas
sign, and one of them decides. What cannot be read is an error that leaves the last good trust in force and signs
nothing: certificates live for hours after their renewal is due, which is time to mend it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from mesh.identity import certificate, denial, issue, rotation
from mesh.identity.authority import AuthorityError, Denial, Record, RootState, Trust
from mesh.identity.certificate import BadCertificate
from mesh.identity.files import Files
from mesh.identity.handed import Handed
from mesh.identity.issue import Issuer
from mesh.identity.rotation import Settling, Step
from mesh.identity.state import State
from mesh.model import Value

log = logging.getLogger("seine.identity")
POLL_SECONDS = 1.0  # two calls of stat(2)


class Outlook(Value, frozen=True):
    """What the next step of a rotation would do, and to whom."""

    step: Step
    nodes: tuple[rotation.Node, ...]
    sentence: str


class Embedded:
    def __init__(
        self,
        files: Files,
        trust_domain: str,
        leaf_seconds: float,
        settle_seconds: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        decides: bool = True,
    ) -> None:
        """`decides`: makes the first root and takes a rotation's steps when nodes ask; else somebody calls for them."""
        self._files, self._decides = files, decides
        self._state = State(files, trust_domain, clock)
        self._trust_domain, self._leaf_seconds = trust_domain, leaf_seconds
        self._clock, self._monotonic = clock, monotonic
        self._settling = Settling(settle_seconds)
        self._written: dict[str, Record] = {}  # by node
        self._unread = ""  # what was last said about a record that cannot be read

    @property
    def kind(self) -> str:
        return self._files.name

    @property
    def poll_seconds(self) -> float:
        return POLL_SECONDS

    @property
    def skew_seconds(self) -> float:
        return 0.0  # it is our own clock

    # --- for nodes

    async def trust(self, record: Record) -> Trust:
        trust = self._state.read()
        now = self._clock()
        if trust is None or len(trust.roots) > 1 or self._is_news(record, now):
            trust = await self._tell(record, now)
        return trust

    def _is_news(self, record: Record, now: float) -> bool:
        last = self._written.get(record.node)
        if last is None or now - last.written_at > self._files.record_seconds:
            return True
        return msgspec.structs.replace(record, written_at=last.written_at) != last

    async def _tell(self, record: Record, now: float) -> Trust:
        """Read and write in one turn: who decides on a step sees either the record, or a node that saw its result."""
        self._files.prepare()
        written = msgspec.structs.replace(record, written_at=now)
        async with self._files.locked():
            trust = self._state.read()
            if trust is None and not self._decides:
                raise AuthorityError("there is no root yet; the replica that leads makes it", "unavailable")
            trust = trust or self._state.add_root(RootState.ISSUING)
            if self._decides or self._is_news(record, now):
                self._files.write_record(written)
            if self._decides:
                trust = self._advance(trust, now)
        self._written[record.node] = written  # not before it is really there
        return trust

    def _advance(self, trust: Trust, now: float) -> Trust:
        step = rotation.next_step(trust.roots)
        if step is Step.NONE:
            return trust
        clear = self._clear(trust, now, step)
        return self._state.advance() if self._settling.ready(trust.generation, clear, self._monotonic()) else trust

    def _clear(self, trust: Trust, now: float, step: Step) -> bool:
        """Whether nothing stands in the way of that step; a record that cannot be read does, and nothing else."""
        try:
            records = self._files.records()
        except AuthorityError as error:
            if str(error) != self._unread:
                log.error("the rotation of the root waits: %s", error)
            self._unread = str(error)
            return False
        self._unread = ""
        return not any(node.obstacle for node in rotation.outlook(trust.roots, records, now, step))

    async def sign(self, request: bytes, name: str) -> tuple[bytes, ...]:
        trust = self._state.get()
        self._refuse_denied(trust, name)
        try:
            public, asked = certificate.read_request(request, self._trust_domain)
            if asked != name:
                raise BadCertificate(f"the request is for {asked}, not for {name}")
            leaf = issue.make_leaf(self._state.issuer, public, name, self._clock(), self._leaf_seconds)
        except BadCertificate as error:
            raise AuthorityError(str(error), "refused") from None
        return (leaf, *self._state.issuer.chain)

    def _refuse_denied(self, trust: Trust, name: str) -> None:
        for each in denial.active(trust.denied, self._clock()):
            if each.what == name:
                until = datetime.fromtimestamp(each.until, UTC)
                raise AuthorityError(f"{name} is denied until {until:%Y-%m-%d %H:%M} UTC: {each.reason}", "denied")

    # --- for whoever decides alone

    def look(self) -> Trust:
        """As kept. AuthorityError when there is nothing, or nothing good."""
        return self._state.get()

    def issuer(self) -> Issuer:
        """Who signs now. Raises AuthorityError."""
        self._state.get()
        return self._state.issuer

    async def advance(self) -> Trust:
        """Make the first root, or take the next step of a rotation if nothing stands in its way."""
        async with self._files.locked():
            return self._advance(self._state.read() or self._state.add_root(RootState.ISSUING), self._clock())

    async def hand_in(self, handed: Handed) -> rotation.Handing:
        """A root that somebody else made is the one to issue. What was done; while a rotation goes on: nothing yet."""
        async with self._files.locked():
            trust = self._state.read()
            what = rotation.handing(trust.roots if trust else (), handed.id, self._is_renewed(handed))
            if what is rotation.Handing.FOUND:
                self._state.hand_in(handed, RootState.ISSUING)
            elif what in (rotation.Handing.JOIN, rotation.Handing.RENEW):
                self._state.hand_in(handed, RootState.JOINING)
        return what

    def _is_renewed(self, handed: Handed) -> bool:
        return self._state.read() is not None and _shown(self._state.issuer) != _shown(handed.issuer)

    # --- for operators

    def outlook(self) -> Outlook:
        """What `rotate` would begin, or what the rotation that is under way waits for. Changes nothing."""
        trust = self._state.get()
        step = rotation.next_step(trust.roots)
        nodes = rotation.outlook(trust.roots, self._files.records(), self._clock(), step)
        return Outlook(step=step, nodes=nodes, sentence=rotation.describe(trust.roots, nodes))

    async def rotate(self) -> Outlook:
        """Begin: a new root joins. AuthorityError while another rotation is under way."""
        async with self._files.locked():
            if rotation.next_step(self._state.get().roots) is not Step.NONE:
                raise AuthorityError("a rotation is under way; it must end before the next begins", "refused")
            self._state.add_root(RootState.JOINING)
        return self.outlook()

    async def deny(self, what: str, seconds: float, reason: str) -> Denial:
        """Somebody (mesh.identity.denial.named) for so long. Raises AuthorityError."""
        new = Denial(what=self._state.named(what), until=float(int(self._clock() + seconds)), reason=reason)
        async with self._files.locked():
            self._state.replace_denial(new.what, new)
        return new

    async def allow(self, what: str) -> bool:
        """Whether it was denied."""
        name = self._state.named(what)
        async with self._files.locked():
            return self._state.replace_denial(name, None)


def _shown(issuer: Issuer) -> tuple[bytes, tuple[bytes, ...]]:
    """What tells one from another: a certificate says whose key it is, and keys cannot be compared."""
    return issuer.certificate, issuer.chain
