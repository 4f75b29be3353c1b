"""What the controller tells of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.controlplane.leading import Leading
from mesh.controlplane.statuses import Statuses
from mesh.identity.authority import Trust
from mesh.identity.server import AuthorityServer
from mesh.observe.exposition import Offer, plain
from mesh.observe.families import ROOT_END, Family

LEADS = Family("seine_controller_leader", "gauge", "1 while this replica leads.")
LEASE_FAILURES = Family(
    "seine_controller_lease_failures_total", "counter", "Times that the Lease could not be read or written."
)
ANSWERED = Family(
    "seine_controller_answered_total", "counter", "What agents asked for and got: trust, sign.", ("what",)
)
REFUSED = Family("seine_controller_refused_total", "counter", "What agents, or others, asked for in vain.", ("reason",))
STATUSES = Family("seine_controller_statuses_written_total", "counter", "Statuses of policies written.")
POLICIES_REFUSED = Family(
    "seine_controller_policies_refused", "gauge", "Policies that agents refuse; their statuses say why."
)
GENERATION = Family("seine_controller_trust_generation", "gauge", "Changes of the roots so far.")


def offers(leading: Leading, server: AuthorityServer, statuses: Statuses, trust: Trust | None) -> Iterator[Offer]:
    roots = trust.roots if trust else ()
    yield LEADS, plain(lambda: [((), float(leading.leads))])
    yield LEASE_FAILURES, plain(lambda: [((), leading.failures)])
    yield ANSWERED, plain(lambda: (((what,), n) for what, n in server.answered.items()))
    yield REFUSED, plain(lambda: (((reason,), n) for reason, n in server.refused.items()))
    yield STATUSES, plain(lambda: [((), statuses.written)])
    yield POLICIES_REFUSED, plain(lambda: [((), len(statuses.refused))])
    yield GENERATION, plain(lambda: [((), trust.generation)] if trust else [])
    yield ROOT_END, plain(lambda: (((root.id, root.state), root.not_after) for root in roots))
