"""The node's identities, put together from the settings: an authority, who keeps its certificates, and the signer that
has their keys; what the agent tells of them, and what operators may do.

What is wrong with them stops no capture: pods without a certificate are captured like others, and have no tunnels.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from mesh import custody
from mesh.config import AgentConfig
from mesh.custody import Custody
from mesh.forward.signing.desk import Desk
from mesh.identity import certificate
from mesh.identity.authority import Authority
from mesh.identity.certificate import Key
from mesh.identity.embedded import Embedded
from mesh.identity.issued import Issued
from mesh.identity.keeper import Audience, Audiences, Keeper
from mesh.identity.remote import Remote, Roots
from mesh.identity.store import Store
from mesh.model import Snapshot
from mesh.observe import status
from mesh.observe.identity_admin import Refused


class Secrets:
    """Among those who are told of certificates the first: gives the signer their keys."""

    def __init__(self, signing: Desk, key_of: Callable[[str], Key | None], complete: Callable[[], bool]) -> None:
        self._signing, self._key_of, self._complete = signing, key_of, complete
        self._told: dict[str, tuple[Key, bytes, bytes]] = {}  # by identity: the key, its name, its private half

    def set_trust(self, domain: str, roots: tuple[bytes, ...], denied: tuple[str, ...]) -> None:
        """A key is the same, whoever is believed."""

    def set_identities(self, chains: Mapping[str, tuple[bytes, ...]]) -> None:
        self._told = {name: self._encoded(name, key) for name in chains if (key := self._key_of(name)) is not None}
        self._signing.set_keys({name: secret for _, name, secret in self._told.values()}, self._complete())

    def _encoded(self, identity: str, key: Key) -> tuple[Key, bytes, bytes]:
        before = self._told.get(identity)
        return before if before and before[0] is key else (key, certificate.key_name(key), certificate.secret(key))


class Credentials:
    def __init__(self, config: AgentConfig, workers: Audience, signing: Desk, roots: Roots) -> None:
        """`roots`: that an authority elsewhere proves itself by."""
        self._signing, self._asked = signing, False
        self._node, self._trust_domain, self._identity_dir = config.node, config.trust_domain, config.identity_dir
        self._embedded = None if config.authority_url else _embedded(config)
        authority: Authority = self._embedded or Remote(
            config.authority_url, config.node, config.authority_token, roots, time.time
        )
        self._issued = Issued(config.run_dir / "issued", self._complete)
        secrets = Secrets(signing, lambda name: self.keeper.key(name), self._complete)
        audience = Audiences(secrets, self._issued, workers)
        self.keeper = Keeper(
            authority, config.node, config.trust_domain, audience, time.time, time.monotonic, random.random
        )

    def note(self, path: Path) -> None:
        """Where `seine clean` finds what this node has said of itself to those that share the directory."""
        if self._embedded is not None:
            path.write_text(f"{Store(self._identity_dir).record_path(self._node)}\n")

    def _complete(self) -> bool:
        """Whether every identity that is wanted is there; before the first are, nobody knows."""
        return self._asked and self.keeper.wanted <= self.keeper.held.keys()

    async def want(self, snapshot: Snapshot) -> None:
        """One identity per service account among the enrolled pods; a moment is waited for new ones."""
        enrolled = (pod.workload for pod in snapshot.pods if pod.enrolled and not pod.refused)
        self._asked = True
        names = {workload.identity(self._trust_domain) for workload in enrolled}
        await self.keeper.want(names, (node.name for node in snapshot.nodes if node.workloads))

    def certified(self, name: str) -> bool:
        """Whether workers can have a certificate of it: from us, or still from the agent before us."""
        return name in self.keeper.held or name in self._issued

    # --- what is told

    def shown(self, chains: bool = False) -> status.IdentityStatus:
        keeper = self.keeper
        whom = keeper.troubles.get("")
        return status.IdentityStatus(
            authority=keeper.authority.kind,
            answered_at=keeper.succeeded,
            skew_seconds=keeper.authority.skew_seconds,
            problem=whom.sentence if whom else "",
            certificates=tuple(self._certificate(name, chains) for name in sorted(keeper.wanted)),
            roots=custody.roots(keeper.trust.roots if keeper.trust else (), chains),
            denied=custody.denials(keeper.denials()),
            events=dict(keeper.counts),
            failures=dict(keeper.failures),
            signer=self._signer(),
        )

    def _signer(self) -> status.SignerStatus:
        signing, counts = self._signing, self._signing.counts
        return status.SignerStatus(
            pid=signing.member.pid if signing.member else 0,
            up=signing.member is not None,
            restarts=signing.restarts,
            keys=signing.keys,
            signatures=counts.pop("signed", 0),
            refused=counts,
        )

    def _certificate(self, name: str, chains: bool) -> status.CertificateStatus:
        held, trouble = self.keeper.held.get(name), self.keeper.troubles.get(name)
        problem = trouble.sentence if trouble else ""
        if held is None:
            return status.CertificateStatus(name=name, problem=problem)
        return status.CertificateStatus(
            name=name,
            serial=held.facts.serial,
            issued_at=held.issued,
            not_after=held.facts.not_after,
            root=held.facts.root,
            problem=problem,
            chain=tuple(map(certificate.pem, held.chain)) if chains else (),
        )

    # --- what operators do

    def _own(self) -> Custody:
        if self._embedded is None:
            raise Refused(f"roots and denials are those of {self.keeper.authority.kind}: they are changed there")
        return Custody(self._embedded)

    def outlook(self) -> status.Rotation:
        return self._own().outlook()

    async def rotate(self) -> status.Rotation:
        return await self._own().rotate()

    async def deny(self, what: str, seconds: float, reason: str) -> status.DenialStatus:
        return await self._own().deny(what, seconds, reason)

    async def allow(self, what: str) -> bool:
        return await self._own().allow(what)


def _embedded(config: AgentConfig) -> Embedded:
    return Embedded(
        Store(config.identity_dir),
        config.trust_domain,
        config.certificate_seconds,
        config.settle_seconds,
        time.time,
        time.monotonic,
    )
