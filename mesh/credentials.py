"""The node's identities, put together from the settings: an authority, who keeps its certificates, and who signs.

What is wrong with them stops no capture: pods without a certificate are captured like others, and have no tunnels.
"""

from __future__ import annotations

import random
import time

from mesh.config import AgentConfig
from mesh.identity.embedded import Embedded
from mesh.identity.keeper import Audience, Keeper
from mesh.identity.signer import Signer
from mesh.model import Snapshot


class Credentials:
    def __init__(self, config: AgentConfig, workers: Audience) -> None:
        self._trust_domain = config.trust_domain
        self.authority = Embedded(
            config.identity_dir,
            config.trust_domain,
            config.certificate_seconds,
            config.settle_seconds,
            time.time,
            time.monotonic,
        )
        self.keeper = Keeper(
            self.authority, config.node, config.trust_domain, workers, time.time, time.monotonic, random.random
        )
        self.signer = Signer(self.keeper.key, time.monotonic)

    async def want(self, snapshot: Snapshot) -> None:
        """One identity per service account among the enrolled pods; a moment is waited for new ones."""
        enrolled = (pod.workload for pod in snapshot.pods if pod.enrolled and not pod.refused)
        names = {workload.identity(self._trust_domain) for workload in enrolled}
        await self.keeper.want(names, (node.name for node in snapshot.nodes if node.workloads))

    def certified(self, name: str) -> bool:
        return name in self.keeper.held
