"""The authority in a state directory: for a node alone, or for agents that share the directory.

Every agent is the authority: it reads the root's key, signs for its own node, and takes the next step of a rotation
when all are ready for it; the lock in the directory makes them take turns. What cannot be read is an error that leaves
the last good trust in force and signs nothing: certificates live for hours after their renewal is due, which is time
to mend it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mesh.identity import certificate, denial, issue, rotation
from mesh.identity.authority import AuthorityError, Denial, Record, RootState, Trust
from mesh.identity.certificate import BadCertificate
from mesh.identity.rotation import Settling, Step
from mesh.identity.state import State
from mesh.identity.store import Store
from mesh.model import Value

log = logging.getLogger("seine.identity")
POLL_SECONDS = 1.0  # two calls of stat(2)
RECORD_SECONDS = 60.0  # a node says that it is there so often, for people who ask why a step is not taken


class Outlook(Value, frozen=True):
    """What the next step of a rotation would do, and to whom."""

    step: Step
    nodes: tuple[rotation.Node, ...]
    sentence: str


class Embedded:
    def __init__(
        self,
        directory: Path,
        trust_domain: str,
        leaf_seconds: float,
        settle_seconds: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._store = Store(directory)
        self._state = State(self._store, trust_domain, clock)
        self._trust_domain, self._leaf_seconds = trust_domain, leaf_seconds
        self._clock, self._monotonic = clock, monotonic
        self._settling = Settling(settle_seconds)
        self._written: dict[str, Record] = {}  # by node
        self._unread = ""  # what was last said about a record that cannot be read

    @property
    def kind(self) -> str:
        return f"directory {self._store.directory}"

    @property
    def poll_seconds(self) -> float:
        return POLL_SECONDS

    @property
    def skew_seconds(self) -> float:
        return 0.0  # it is our own clock

    def record_path(self, node: str) -> Path:
        return self._store.record_path(node)

    # --- for nodes

    async def trust(self, record: Record) -> Trust:
        trust = self._state.read()
        now = self._clock()
        if trust is None or len(trust.roots) > 1 or self._is_news(record, now):
            trust = await self._tell(record, now)
        return trust

    def _is_news(self, record: Record, now: float) -> bool:
        last = self._written.get(record.node)
        if last is None or now - last.written_at > RECORD_SECONDS:
            return True
        return msgspec.structs.replace(record, written_at=last.written_at) != last

    async def _tell(self, record: Record, now: float) -> Trust:
        """Read and write in one turn: who decides on a step sees either the record, or a node that saw its result."""
        self._store.prepare()
        async with self._store.locked():
            trust = self._state.read() or self._state.add_root(RootState.ISSUING)
            self._written[record.node] = msgspec.structs.replace(record, written_at=now)
            self._store.write_record(self._written[record.node])
            return self._advance(trust, now)

    def _advance(self, trust: Trust, now: float) -> Trust:
        step = rotation.next_step(trust.roots)
        if step is Step.NONE:
            return trust
        clear = self._clear(trust, now, step)
        return self._state.advance() if self._settling.ready(trust.generation, clear, self._monotonic()) else trust

    def _clear(self, trust: Trust, now: float, step: Step) -> bool:
        """Whether nothing stands in the way of that step; a record that cannot be read does, and nothing else."""
        try:
            records = self._store.records()
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
            root = next(root for root in trust.roots if root.state is RootState.ISSUING)
            leaf = issue.make_leaf(root.certificate, self._state.key, public, name, self._clock(), self._leaf_seconds)
        except BadCertificate as error:
            raise AuthorityError(str(error), "refused") from None
        return (leaf,)

    def _refuse_denied(self, trust: Trust, name: str) -> None:
        for each in denial.active(trust.denied, self._clock()):
            if each.what == name:
                until = datetime.fromtimestamp(each.until, UTC)
                raise AuthorityError(f"{name} is denied until {until:%Y-%m-%d %H:%M} UTC: {each.reason}", "denied")

    # --- for operators

    def outlook(self) -> Outlook:
        """What `rotate` would begin, or what the rotation that is under way waits for. Changes nothing."""
        trust = self._state.get()
        step = rotation.next_step(trust.roots)
        nodes = rotation.outlook(trust.roots, self._store.records(), self._clock(), step)
        return Outlook(step=step, nodes=nodes, sentence=rotation.describe(trust.roots, nodes))

    async def rotate(self) -> Outlook:
        """Begin: a new root joins. AuthorityError while another rotation is under way."""
        async with self._store.locked():
            if rotation.next_step(self._state.get().roots) is not Step.NONE:
                raise AuthorityError("a rotation is under way; it must end before the next begins", "refused")
            self._state.add_root(RootState.JOINING)
        return self.outlook()

    async def deny(self, what: str, seconds: float, reason: str) -> Denial:
        """Somebody (mesh.identity.denial.named) for so long. Raises AuthorityError."""
        new = Denial(what=self._state.named(what), until=float(int(self._clock() + seconds)), reason=reason)
        async with self._store.locked():
            self._state.replace_denial(new.what, new)
        return new

    async def allow(self, what: str) -> bool:
        """Whether it was denied."""
        name = self._state.named(what)
        async with self._store.locked():
            return self._state.replace_denial(name, None)
