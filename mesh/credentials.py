"""The node's identities, put together from the settings: an authority, who keeps its certificates, and who signs; what
the agent tells of them, and what operators may do.

What is wrong with them stops no capture: pods without a certificate are captured like others, and have no tunnels.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

from mesh.config import AgentConfig
from mesh.identity import certificate
from mesh.identity.authority import Authority, AuthorityError
from mesh.identity.embedded import Embedded, Outlook
from mesh.identity.keeper import Audience, Keeper
from mesh.identity.remote import Remote
from mesh.identity.signer import Signer
from mesh.model import Snapshot
from mesh.observe import status
from mesh.observe.identity_admin import Refused


class Credentials:
    def __init__(self, config: AgentConfig, workers: Audience) -> None:
        self._node, self._trust_domain = config.node, config.trust_domain
        self._embedded = None if config.authority_url else _embedded(config)
        authority: Authority = self._embedded or _remote(config)
        self.keeper = Keeper(
            authority, config.node, config.trust_domain, workers, time.time, time.monotonic, random.random
        )
        self.signer = Signer(self.keeper.key, time.monotonic)

    def note(self, path: Path) -> None:
        """Where `seine clean` finds what this node has said of itself to those that share the directory."""
        if self._embedded is not None:
            path.write_text(f"{self._embedded.record_path(self._node)}\n")

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
            roots=self._roots(chains),
            denied=self._denied(),
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

    def _roots(self, chains: bool) -> tuple[status.RootStatus, ...]:
        trust = self.keeper.trust
        return tuple(
            status.RootStatus(
                id=root.id,
                state=root.state,
                not_after=root.not_after,
                certificate=certificate.pem(root.certificate) if chains else "",
            )
            for root in (trust.roots if trust else ())
        )

    def _denied(self) -> tuple[status.DenialStatus, ...]:
        now, trust = self.keeper.denied(), self.keeper.trust
        found = (each for each in (trust.denied if trust else ()) if each.what in now)
        return tuple(status.DenialStatus(what=each.what, until=each.until, reason=each.reason) for each in found)

    # --- what operators do

    def _own(self) -> Embedded:
        if self._embedded is None:
            raise Refused(f"roots and denials are those of {self.keeper.authority.kind}: they are changed there")
        return self._embedded

    def outlook(self) -> status.Rotation:
        with _refusing():
            return _rotation(self._own().outlook())

    async def rotate(self) -> status.Rotation:
        with _refusing():
            return _rotation(await self._own().rotate())

    async def deny(self, what: str, seconds: float, reason: str) -> status.DenialStatus:
        with _refusing():
            made = await self._own().deny(what, seconds, reason)
        return status.DenialStatus(what=made.what, until=made.until, reason=made.reason)

    async def allow(self, what: str) -> bool:
        with _refusing():
            return await self._own().allow(what)


def _embedded(config: AgentConfig) -> Embedded:
    return Embedded(
        config.identity_dir,
        config.trust_domain,
        config.certificate_seconds,
        config.settle_seconds,
        time.time,
        time.monotonic,
    )


def _remote(config: AgentConfig) -> Remote:
    return Remote(config.authority_url, config.node, config.authority_token, config.authority_roots, time.time)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except AuthorityError as error:
        raise Refused(str(error)) from None


def _rotation(outlook: Outlook) -> status.Rotation:
    nodes = (
        status.RotatedNode(
            node=node.node,
            obstacle=node.obstacle,
            certificates=node.certificates,
            until=node.until,
            heard_at=node.written_at,
        )
        for node in outlook.nodes
    )
    return status.Rotation(step=outlook.step, sentence=outlook.sentence, nodes=tuple(nodes))
