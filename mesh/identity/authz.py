"""Whether a pod may be called: the meaning of AuthorizationPolicy, for people who ask and for tests.

The engine decides by the same values (cext/authz.c); tests hold the two together. The rules are Istio's:
* a DENY that matches denies; else without an ALLOW policy all is allowed, unless the namespace's default is deny;
  else what some ALLOW matches is allowed. AUDIT is only told;
* what is not HTTP, or not looked into, has no host, method and path: an ALLOW rule that names one anywhere does not
  match it, and of a DENY or AUDIT rule these conditions count as met, so that it denies more, not less;
* who has no proven identity matches no principal and no namespace, and therefore every `not_` of them.
Dry-run policies take no part in the verdict; `trial` is the verdict if they did.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from mesh.model import (
    Authorization,
    AuthorizationPolicy,
    AuthzAction,
    AuthzOperation,
    AuthzRule,
    AuthzSource,
    Match,
    Pattern,
    Value,
)

PREFIX = "spiffe://"

T = TypeVar("T")


class Request(Value, frozen=True):
    """HTTP. All three in normal form; the host is empty when there is none."""

    method: str
    host: str
    path: str


class Facts(Value, frozen=True):
    address: str  # the client's; empty: not known
    port: int  # of the pod; 0: not known
    identity: str = ""  # SPIFFE id; empty: none was proven
    request: Request | None = None  # None: not HTTP


class Outcome(Value, frozen=True):
    """`policy`: by which; None: by none, because no ALLOW policy matched, or nothing is said at all."""

    allowed: bool
    policy: AuthorizationPolicy | None = None
    rule: int = -1


class Verdict(Value, frozen=True):
    enforced: Outcome
    trial: Outcome
    audited: tuple[Outcome, ...] = ()


def matches(pattern: Pattern, text: str) -> bool:
    match pattern.how:
        case Match.EXACT:
            return text == pattern.text
        case Match.PREFIX:
            return text.startswith(pattern.text)
        case Match.SUFFIX:
            return text.endswith(pattern.text)
        case Match.PRESENT:
            return bool(text)


def namespace_of(identity: str) -> str:
    """Of spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT; empty for anything else."""
    match identity.removeprefix(PREFIX).split("/"):
        case [domain, "ns", namespace, "sa", account] if identity.startswith(PREFIX) and domain and account:
            return namespace
    return ""


def within(block: str, address: str) -> bool:
    if not address:
        return False
    network, client = ipaddress.ip_network(block), ipaddress.ip_address(address)
    return network.version == client.version and client in network


# --- why not: one sentence for the first condition that does not hold, "" when all do


def _listed(what: str, value: str, wanted: Sequence[T], unwanted: Sequence[T], holds: Callable[[T, str], bool]) -> str:
    if wanted and not any(holds(each, value) for each in wanted):
        known = f" {value}" if value else " is not known, and so"
        return f"{what}{known} is not one of {', '.join(map(str, wanted))}"
    for each in unwanted:
        if holds(each, value):
            return f"{what} {value} is excluded by {each}"
    return ""


def _source_differs(source: AuthzSource, facts: Facts) -> str:
    name = facts.identity.removeprefix(PREFIX) if facts.identity.startswith(PREFIX) else ""
    namespace = namespace_of(facts.identity)
    return (
        _listed("principal", name, source.principals, source.not_principals, matches)
        or _listed("namespace", namespace, source.namespaces, source.not_namespaces, matches)
        or _listed("address", facts.address, source.ip_blocks, source.not_ip_blocks, within)
    )


def _same_port(wanted: int, port: str) -> bool:
    return str(wanted) == port


def _operation_differs(operation: AuthzOperation, facts: Facts) -> str:
    port = _listed("port", str(facts.port or ""), operation.ports, operation.not_ports, _same_port)
    request = facts.request
    if request is None:
        return port
    return (
        port
        or _listed("host", request.host, operation.hosts, operation.not_hosts, matches)
        or _listed("method", request.method, operation.methods, operation.not_methods, matches)
        or _listed("path", request.path, operation.paths, operation.not_paths, matches)
    )


def needs_http(rule: AuthzRule) -> bool:
    return any(
        (each.hosts, each.not_hosts, each.methods, each.not_methods, each.paths, each.not_paths) != ((),) * 6
        for each in rule.operations
    )


def _operations(authorization: Authorization) -> Iterable[AuthzOperation]:
    return (each for policy in authorization.policies for rule in policy.rules for each in rule.operations)


def needs_paths(authorization: Authorization) -> bool:
    """Whether any rule looks at paths, so that they are brought into normal form."""
    return any(each.paths or each.not_paths for each in _operations(authorization))


def needs_hosts(authorization: Authorization) -> bool:
    return any(each.hosts or each.not_hosts for each in _operations(authorization))


def _one_of(reasons: Iterable[str]) -> str:
    """Of alternatives: "" if one holds or there are none; else why the last one does not."""
    reason = ""
    for reason in reasons:
        if not reason:
            return ""
    return reason


def differs(action: AuthzAction, rule: AuthzRule, facts: Facts) -> str:
    """Why a rule does not match; "" if it does."""
    if facts.request is None and action is AuthzAction.ALLOW and needs_http(rule):
        return "it names hosts, methods or paths, and this is not HTTP"
    return _one_of(_source_differs(each, facts) for each in rule.sources) or _one_of(
        _operation_differs(each, facts) for each in rule.operations
    )


def _first(policies: Iterable[AuthorizationPolicy], facts: Facts) -> Outcome | None:
    for policy in policies:
        for number, rule in enumerate(policy.rules):
            if not differs(policy.action, rule, facts):
                return Outcome(allowed=policy.action is not AuthzAction.DENY, policy=policy, rule=number)
    return None


def _outcome(authorization: Authorization, policies: Sequence[AuthorizationPolicy], facts: Facts) -> Outcome:
    if denied := _first((each for each in policies if each.action is AuthzAction.DENY), facts):
        return denied
    allowing = [each for each in policies if each.action is AuthzAction.ALLOW]
    closed = bool(allowing) or authorization.default_deny
    return _first(allowing, facts) or Outcome(allowed=not closed)


def decide(authorization: Authorization, facts: Facts) -> Verdict:
    policies = authorization.policies
    audits = (_first((each,), facts) for each in policies if each.action is AuthzAction.AUDIT)
    return Verdict(
        enforced=_outcome(authorization, [each for each in policies if not each.dry_run], facts),
        trial=_outcome(authorization, policies, facts),
        audited=tuple(each for each in audits if each),
    )
