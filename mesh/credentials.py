"""The node's identities, put together from the settings: an authority, who keeps its certificates, and who signs; what
the agent tells of them, and what operators may do.

What is wrong with them stops no capture: pods without a certificate are captured like others, and have no tunnels.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from mesh import custody
from mesh.config import AgentConfig
from mesh.custody import Custody
from mesh.identity import certificate
from mesh.identity.authority import Authority
from mesh.identity.embedded import Embedded
from mesh.identity.keeper import Audience, Keeper
from mesh.identity.remote import Remote, Roots
from mesh.identity.signer import Signer
from mesh.identity.store import Store
from mesh.model import Snapshot
from mesh.observe import status
from mesh.observe.identity_admin import Refused


class Credentials:
    def __init__(self, config: AgentConfig, workers: Audience, roots: Roots) -> None:
        """`roots`: that an authority elsewhere proves itself by."""
        self._node, self._trust_domain, self._identity_dir = config.node, config.trust_domain, config.identity_dir
        self._embedded = None if config.authority_url else _embedded(config)
        authority: Authority = self._embedded or Remote(
            config.authority_url, config.node, config.authority_token, roots, time.time
        )
        self.keeper = Keeper(
            authority, config.node, config.trust_domain, workers, time.time, time.monotonic, random.random
        )
        self.signer = Signer(self.keeper.key, time.monotonic)

    def note(self, path: Path) -> None:
        """Where `seine clean` finds what this node has said of itself to those that share the directory."""
        if self._embedded is not None:
            path.write_text(f"{Store(self._identity_dir).record_path(self._node)}\n")

    async def want(self, snapshot: Snapshot) -> None:
        """One identity per service account among the enrolled pods; a moment is waited for new ones."""
        enrolled = (pod.workload for pod in snapshot.pods if pod.enrolled and not pod.refused)
        names = {workload.identity(self._trust_domain) for workload in enrolled}
        await self.keeper.want(names, (node.name for node in snapshot.nodes if node.workloads))

    def certified(self, name: str) -> bool:
        return name in self.keeper.held

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
            signatures=self.signer.signed,
            signatures_refused=dict(self.signer.refused),
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
