"""Do all witnesses say the same? Facts -> checks; pure, so that a test can lie to it.

The client's own count, the applications' logs and the health checks decide what happened; Seine's table has to agree
with them, within one request or connection of each sum. `compare` is complete: what it does not ask is not promised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mesh.cli.report import Check, Result
from mesh.model import PodState
from mesh.observe.rates import ServiceRates
from mesh.observe.status import PodStatus

SLACK = 1  # a request that ends while counters are read


@dataclass(frozen=True)
class Facts:
    """All since the traffic began."""

    tally: Mapping[str, Any]  # of the client: see traffic.py
    checked: Mapping[str, int]  # the node's good health checks by pod
    check_failures: tuple[str, ...]
    nginx: Mapping[str, Mapping[tuple[str, int], int]]  # pod -> (who asked, status) -> requests logged
    connections: Mapping[str, int]  # PostgreSQL's log: who connected -> how often
    statements: int  # likewise
    table: Mapping[str, ServiceRates]  # Seine's, by service
    by_connect: int  # connections that Seine says its connect hook took
    by_lookup: int  # likewise sk_lookup
    pods: tuple[PodStatus, ...]
    client: frozenset[str] = field(default_factory=frozenset)  # the client pod's addresses
    node: frozenset[str] = field(default_factory=frozenset)

    @property
    def web_asked(self) -> int:
        """By the client and by the node."""
        return int(self.tally["web"]["good"]) + sum(self.checked.values())

    @property
    def web_connections(self) -> int:
        return int(self.tally["web"]["connections"]) + sum(self.checked.values())


def compare(facts: Facts) -> Iterator[Check]:
    yield from _success(facts)
    yield from _logs(facts)
    yield from _table(facts)
    yield from _capture(facts)
    yield from _balance(facts)


def _check(category: str, description: str, good: bool, otherwise: str) -> Check:
    return Check(category, description, Result.SUCCESS if good else Result.ERROR, "" if good else otherwise)


def near(left: int, right: int) -> bool:
    return abs(left - right) <= SLACK


# --- did everything succeed?


def _success(facts: Facts) -> Iterator[Check]:
    name = "what the client saw"
    for service, what in (("web", "requests"), ("db", "queries")):
        counts = facts.tally[service]
        bad = counts["asked"] - counts["good"]
        errors = "; ".join(facts.tally["errors"])
        yield _check(
            name,
            f"{counts['good']:,} {what} to {service} over {counts['connections']:,} connections, each answered",
            bad == 0 and counts["good"] > 0,
            f"{bad} of {counts['asked']} {what} failed: {errors}" if bad else f"no {what} were made",
        )
    yield _check(
        name,
        f"{sum(facts.checked.values()):,} health checks by the node, each answered",
        not facts.check_failures and len(facts.checked) == len(facts.nginx),
        "; ".join(facts.check_failures[:5]) or f"only {', '.join(facts.checked) or 'no pod'} was checked",
    )


# --- do the applications say so too?


def _logs(facts: Facts) -> Iterator[Check]:
    name = "what the applications logged"
    for pod, seen in sorted(facts.nginx.items()):
        asked = facts.tally["web"]["replicas"].get(pod, 0)
        logged = sum(n for (peer, status), n in seen.items() if peer in facts.client and status == 200)
        yield _check(
            name,
            f"{pod}: nginx answered {logged:,} requests, and saw the client's own address",
            logged == asked,
            f"nginx logged {logged}, the client counted {asked} answers of it; in the log are {_listed(seen)}",
        )
        others = {who: n for who, n in seen.items() if who[0] not in facts.client}
        logged = sum(n for (peer, status), n in others.items() if peer in facts.node and status == 200)
        yield _check(
            name,
            f"{pod}: nginx answered {logged:,} health checks of the node, and nobody else",
            logged == facts.checked.get(pod, 0) == sum(others.values()),
            f"the node counted {facts.checked.get(pod, 0)}; in the log are {_listed(others)}",
        )
    counts, strangers = facts.tally["db"], set(facts.connections) - facts.client
    connections = sum(facts.connections.values())
    yield _check(
        name,
        f"db: PostgreSQL saw {connections:,} connections, {facts.statements:,} queries, the client's own address",
        connections == counts["connections"] and facts.statements == counts["good"] and not strangers,
        f"the client counted {counts['connections']} and {counts['good']}; they came from {dict(facts.connections)}",
    )


def _listed(seen: Mapping[tuple[str, int], int]) -> str:
    return ", ".join(f"{n} of {peer} with {status}" for (peer, status), n in sorted(seen.items())) or "none"


# --- does Seine's table?


def _table(facts: Facts) -> Iterator[Check]:
    name = "what Seine's table says"
    web, db = facts.table["web"], facts.table["db"]
    yield _check(
        name,
        f"web: {web.requests:,} requests, {web.failures:,} failed",
        near(web.requests, facts.web_asked) and web.failures == 0,
        f"nginx answered {facts.web_asked}",
    )
    yield _check(
        name,
        f"web: {web.connections:,} connections",
        near(web.connections, facts.web_connections),
        f"client and node opened {facts.web_connections}",
    )
    yield _check(
        name,
        f"db: {db.connections:,} connections",
        near(db.connections, facts.tally["db"]["connections"]),
        f"the client opened {facts.tally['db']['connections']}",
    )
    for pod, seen in sorted(facts.nginx.items()):
        share = next((share for share in web.shares if share.pod == pod), None)
        requests, logged = share.requests if share else 0, sum(seen.values())
        yield _check(name, f"{pod}: {requests:,} requests", near(requests, logged), f"its nginx logged {logged}")


# --- was everything captured?


def _capture(facts: Facts) -> Iterator[Check]:
    name = "capture"
    opened = facts.tally["web"]["connections"] + facts.tally["db"]["connections"]
    yield _check(
        name,
        f"{facts.by_connect:,} connections by the connect hook in client",
        near(facts.by_connect, opened),
        f"the client opened {opened}",
    )
    checked = sum(facts.checked.values())
    yield _check(
        name,
        f"{facts.by_lookup:,} connections by sk_lookup in the web pods",
        near(facts.by_lookup, checked),
        f"the node opened {checked}",
    )
    for pod in facts.pods:
        past = {reason: n for reason, n in pod.kernel.items() if n and went_past(reason)}
        yield _check(
            name,
            f"{pod.name} is captured, nothing of it went past the mesh",
            pod.state is PodState.CAPTURED and not pod.bypassing and not past,
            f"its state is {pod.state} {pod.detail}".strip() + "".join(f", {n} {reason}" for reason, n in past.items()),
        )


def went_past(reason: str) -> bool:
    """The hooks' counters of connections that they left alone, refused or lost."""
    return reason not in ("captured", "inbound_captured")


# --- was it balanced?


def _balance(facts: Facts) -> Iterator[Check]:
    replicas = facts.tally["web"]["replicas"]
    fast, slow = replicas.get("web-fast", 0), replicas.get("web-slow", 0)
    yield _check(
        "balance",
        f"both replicas were used, the faster one more: web-fast {fast:,}, web-slow {slow:,}",
        fast > slow > 0,
        "the client's own count of who answered",
    )
