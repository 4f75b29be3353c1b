"""The node's certificates: those it needs, renewed in time, and whom it believes.

What the authority says is asked for again and again, and at once when something changed. When it fails, everything that
is there is used to its end and asked for anew, later and later. Private keys are made here, and the signer is given
them: they are in no file or log. A key stays over renewals; it ends with the agent, or when its certificate's serial
number is denied.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial
from typing import Protocol

from mesh.identity import certificate, denial, issue, renewal
from mesh.identity.authority import Authority, AuthorityError, Denial, Record, Trust
from mesh.identity.certificate import BadCertificate, Key
from mesh.identity.holding import Held, Trouble, due, hanging

log = logging.getLogger("seine.identity")
FIRST_SECONDS_MAX = 2.0  # to wait for new identities before their pods are captured; an authority answers in 0.1
AT_ONCE = 8  # requests under way: a node has some hundred identities, and an authority some thousand nodes

_TRUST = ""  # the task that asks whom to believe, among those that are named by identity


class Audience(Protocol):
    """Who is told of changes: the workers, and the QUIC process."""

    def set_trust(self, domain: str, roots: tuple[bytes, ...], denied: tuple[str, ...]) -> None: ...

    def set_identities(self, chains: Mapping[str, tuple[bytes, ...]]) -> None: ...


class Audiences:
    """Several as one."""

    def __init__(self, *each: Audience) -> None:
        self._each = each

    def set_trust(self, domain: str, roots: tuple[bytes, ...], denied: tuple[str, ...]) -> None:
        for audience in self._each:
            audience.set_trust(domain, roots, denied)

    def set_identities(self, chains: Mapping[str, tuple[bytes, ...]]) -> None:
        for audience in self._each:
            audience.set_identities(chains)


class Keeper:
    def __init__(
        self,
        authority: Authority,
        node: str,
        trust_domain: str,
        audience: Audience,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.authority, self.trust_domain = authority, trust_domain
        self._node, self._audience = node, audience
        self._clock, self._monotonic, self._chance = clock, monotonic, chance
        self._peers: tuple[str, ...] = ()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._news = asyncio.Event()  # something changed: look again
        self._done = asyncio.Condition()  # something was tried
        self._crash: asyncio.Task[None] | None = None
        self._trust_due = 0.0
        self._switched = 0.0  # when the root that issues became another one; monotonic
        self._told: object = None
        self.wanted: frozenset[str] = frozenset()
        self.held: dict[str, Held] = {}
        self.trust: Trust | None = None
        self.troubles: dict[str, Trouble] = {}  # by identity, "" for whom to believe
        self.succeeded = 0.0  # when the authority last answered; 0: never
        self.counts: Counter[str] = Counter()  # issued, renewed, expired
        self.failures: Counter[str] = Counter()  # by reason

    # --- questions

    def key(self, name: str) -> Key | None:
        held = self.held.get(name)
        return held.key if held else None

    def record(self) -> Record:
        """What we hold, for whoever rotates."""
        return Record(
            node=self._node,
            generation=self.trust.generation if self.trust else 0,
            trusts=tuple(root.id for root in self.trust.roots) if self.trust else (),
            leafs=hanging(self.held.values()),
            peers=self._peers,
        )

    def denied(self) -> tuple[str, ...]:
        """Who is denied at this moment."""
        return tuple(each.what for each in self.denials())

    def denials(self) -> tuple[Denial, ...]:
        return denial.active(self.trust.denied, self._clock()) if self.trust else ()

    # --- what is wanted

    async def want(self, names: Iterable[str], peers: Iterable[str] = ()) -> None:
        """These identities and no others; `peers`: other nodes. Returns when new ones are there or were tried."""
        self.wanted, self._peers = frozenset(names), tuple(sorted(peers))
        gone = self.held.keys() - self.wanted
        for name in gone:
            del self.held[name]
        for name in self.troubles.keys() - self.wanted - {_TRUST}:
            del self.troubles[name]
        if gone:
            self._tell()
        self._news.set()
        try:
            async with asyncio.timeout(FIRST_SECONDS_MAX), self._done:
                await self._done.wait_for(lambda: self._tried(self.wanted))
        except TimeoutError:
            log.warning("%s is slow; pods are captured without their identities for now", self.authority.kind)

    def _tried(self, names: Collection[str]) -> bool:
        if self.trust is None and _TRUST in self.troubles:
            return True
        return all(name in self.held or name in self.troubles for name in names)

    # --- the loop

    async def run(self) -> None:
        """Keep it all for ever."""
        try:
            while True:
                self._news.clear()
                self.tend()
                try:
                    async with asyncio.timeout(min(1.0, self.authority.poll_seconds)):
                        await self._news.wait()
                except TimeoutError:
                    pass
                if self._crash is not None:
                    self._crash.result()
        finally:
            for task in self._tasks.values():
                task.cancel()

    def tend(self) -> None:
        """Drop what has ended, begin what is due."""
        self._expire()
        self._tell()
        now = self._monotonic()
        if now >= self._trust_due:
            self._begin(_TRUST, self._look)
        if self.trust is None:
            return
        denied, wall = self.denied(), self._clock()
        for name in sorted(self.wanted):
            if due(self.held.get(name), self.troubles.get(name), self.trust, denied, self._switched, wall, now):
                self._begin(name, partial(self._obtain, name))

    async def idle(self) -> None:
        """Until nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())
            await asyncio.sleep(0)

    def _begin(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        if name not in self._tasks:
            task = self._tasks[name] = asyncio.ensure_future(work())
            task.add_done_callback(lambda _: self._end(name))

    def _end(self, name: str) -> None:
        task = self._tasks.pop(name)
        if not task.cancelled() and task.exception() is not None:
            self._crash = task
        self._news.set()

    def _expire(self) -> None:
        now = self._clock()
        for name in [name for name, held in self.held.items() if held.facts.not_after <= now]:
            del self.held[name]
            self.counts["expired"] += 1
            log.error("the certificate of %s has ended, and no new one came: its pods can use no tunnel", name)

    # --- asking the authority

    async def _look(self) -> None:
        told = self.record()
        try:
            found = await self.authority.trust(told)
        except AuthorityError as error:
            self._trust_due = self._fail(_TRUST, error).retry
        else:
            self._succeed(_TRUST)
            self._believe(found)
            again = self.record() != told  # what we now believe, or got meanwhile, is to be known at once
            self._trust_due = self._monotonic() + (0.0 if again else self.authority.poll_seconds)
        await self._notify()

    def _believe(self, found: Trust) -> None:
        if self.trust is not None and found.issuing != self.trust.issuing:
            self._switched = self._monotonic()
            log.info("certificates come from the root %s now", found.issuing)
        self.trust = found
        self._tell()

    async def _obtain(self, name: str) -> None:
        former = self.held.get(name)
        key = issue.new_key() if former is None or former.facts.serial in self.denied() else former.key
        try:
            async with self._turn:
                chain = await self.authority.sign(issue.make_request(key, name), name)
            held = self._accept(name, key, chain)
        except AuthorityError as error:
            self._fail(name, error)
        else:
            self._succeed(name)
            if name in self.wanted:  # it may have left meanwhile
                self.counts["renewed" if former else "issued"] += 1
                self.held[name] = held
                self._tell()
        if _TRUST not in self.troubles:  # its own pauses are kept
            self._trust_due = self._monotonic()
        await self._notify()

    def _accept(self, name: str, key: Key, chain: tuple[bytes, ...]) -> Held:
        """An authority may be wrong, or this node's clock."""
        roots = [root.certificate for root in self.trust.roots] if self.trust else []
        try:
            public, facts = certificate.read_leaf(chain, roots, self.trust_domain)
        except BadCertificate as error:
            raise AuthorityError(f"its certificate for {name} is of no use: {error}", "useless") from None
        if facts.name != name or public != key.public_key():
            raise AuthorityError(f"its certificate for {name} is for {facts.name} or another key", "useless")
        now = self._clock()
        if facts.not_after <= now:
            late = now - facts.not_after
            raise AuthorityError(
                f"its certificate for {name} ended {late:.0f} s ago; is this node's clock wrong?", "clock"
            )
        return Held(key=key, chain=chain, facts=facts, issued=now, chance=self._chance())

    def _succeed(self, name: str) -> None:
        self.succeeded = self._clock()
        if self.troubles.pop(name, None):
            log.info("%s: the authority is of use again", name or "trust")

    def _fail(self, name: str, error: AuthorityError) -> Trouble:
        before = self.troubles.get(name)
        failures = before.failures + 1 if before else 1
        delay = renewal.retry(failures, 2 * self.authority.poll_seconds, self._chance())
        self.troubles[name] = Trouble(failures, self._monotonic() + delay, str(error))
        self.failures[error.reason] += 1
        if before is None or before.sentence != str(error):
            log.error("%s: %s", name or "whom to believe cannot be learned", error)
        return self.troubles[name]

    async def _notify(self) -> None:
        async with self._done:
            self._done.notify_all()

    # --- telling the workers

    def _tell(self) -> None:
        """What changed; trust first, so that nobody shows a certificate whose root its own node does not believe."""
        if self.trust is not None:
            trust = (tuple(root.certificate for root in self.trust.roots), self.denied())
            if trust != self._told:
                self._told = trust
                self._audience.set_trust(self.trust_domain, *trust)
        self._audience.set_identities({name: held.chain for name, held in self.held.items()})
