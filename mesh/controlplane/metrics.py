"""What the controller tells of itself to Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.controlplane.departed import Departed
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
STATUSES_FAILED = Family(
    "seine_controller_statuses_failed_total",
    "counter",
    "Times that statuses were not written, and tried again.",
)
POLICIES_REFUSED = Family(
    "seine_controller_policies_refused", "gauge", "Policies that agents refuse; their statuses say why."
)
DEPARTED = Family(
    "seine_controller_departed_nodes_total", "counter", "Nodes that were gone, and what their agents said with them."
)
DEPARTED_FAILED = Family(
    "seine_controller_departed_failures_total", "counter", "Times that it could not be known whether a node is gone."
)
GENERATION = Family("seine_controller_trust_generation", "gauge", "Changes of the roots so far.")


def offers(
    leading: Leading, server: AuthorityServer, statuses: Statuses, departed: Departed, trust: Trust | None
) -> Iterator[Offer]:
    roots = trust.roots if trust else ()
    yield LEADS, plain(lambda: [((), float(leading.leads))])
    yield LEASE_FAILURES, plain(lambda: [((), leading.failures)])
    yield ANSWERED, plain(lambda: (((what,), n) for what, n in server.answered.items()))
    yield REFUSED, plain(lambda: (((reason,), n) for reason, n in server.refused.items()))
    yield STATUSES, plain(lambda: [((), statuses.written)])
    yield STATUSES_FAILED, plain(lambda: [((), statuses.failures)])
    yield POLICIES_REFUSED, plain(lambda: [((), len(statuses.refused))])
    yield DEPARTED, plain(lambda: [((), departed.removed)])
    yield DEPARTED_FAILED, plain(lambda: [((), departed.failures)])
    yield GENERATION, plain(lambda: [((), trust.generation)] if trust else [])
    yield ROOT_END, plain(lambda: (((root.id, root.state), root.not_after) for root in roots))
