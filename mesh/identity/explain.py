"""Why a pod may or may not be called, rule by rule: what `seine authz` says. mesh.identity.authz gives the verdict."""

from __future__ import annotations

from msgspec import structs

from mesh.identity.authz import Facts, Outcome, Verdict, decide, differs, needs_hosts, needs_paths
from mesh.identity.normal import Ambiguous, normal_host, normal_path
from mesh.model import Authorization, AuthorizationPolicy, AuthzAction, Value


class PolicyReason(Value, frozen=True):
    """`rules`: why each of them does not match, empty where it does."""

    policy: str  # "NAMESPACE/NAME"
    action: AuthzAction
    dry_run: bool
    rules: tuple[str, ...]


class Explanation(Value, frozen=True):
    allowed: bool
    verdict: str  # a sentence
    notes: tuple[str, ...] = ()  # sentences: the spelling that is judged, dry runs, audits
    policies: tuple[PolicyReason, ...] = ()


def explain(authorization: Authorization, asked: Facts) -> Explanation:
    """Of a request that may be spelled as clients do; the engine judges its normal form."""
    try:
        facts, notes = _normal(authorization, asked)
    except Ambiguous as reason:
        return Explanation(allowed=False, verdict=f"refused with 400, because it could be read in two ways: {reason}")
    found = decide(authorization, facts)
    return Explanation(
        allowed=found.enforced.allowed,
        verdict=_sentence(authorization, found.enforced),
        notes=(*notes, *_trials(authorization, found), *(f"told by {_name(each)}" for each in found.audited)),
        policies=tuple(_reasons(policy, facts) for policy in authorization.policies),
    )


def _normal(authorization: Authorization, facts: Facts) -> tuple[Facts, tuple[str, ...]]:
    request, notes = facts.request, []
    if request is None:
        return facts, ()
    if needs_paths(authorization) and (path := normal_path(request.path)) != request.path:
        notes.append(f"the path is judged, and forwarded, as {path}")
        request = structs.replace(request, path=path)
    if needs_hosts(authorization):
        request = structs.replace(request, host=normal_host(request.host))
    return structs.replace(facts, request=request), tuple(notes)


def _name(outcome: Outcome) -> str:
    policy = outcome.policy
    return f"{policy.action} {policy.namespace}/{policy.name}, rule {outcome.rule}" if policy else "no policy"


def _sentence(authorization: Authorization, outcome: Outcome) -> str:
    if outcome.policy:
        return f"{'allowed' if outcome.allowed else 'denied'} by {_name(outcome)}"
    if outcome.allowed:
        return "allowed, because no DENY matches and there is no ALLOW"
    allows = any(each.action is AuthzAction.ALLOW and not each.dry_run for each in authorization.policies)
    return "denied, because no ALLOW matches" if allows else "denied, because that is the default of its namespace"


def _trials(authorization: Authorization, found: Verdict) -> tuple[str, ...]:
    if found.trial.allowed == found.enforced.allowed:
        return ()
    return (f"without dry runs it would be {_sentence(_in_force(authorization), found.trial)}",)


def _in_force(authorization: Authorization) -> Authorization:
    return structs.replace(
        authorization, policies=tuple(structs.replace(each, dry_run=False) for each in authorization.policies)
    )


def _reasons(policy: AuthorizationPolicy, facts: Facts) -> PolicyReason:
    return PolicyReason(
        policy=f"{policy.namespace}/{policy.name}",
        action=policy.action,
        dry_run=policy.dry_run,
        rules=tuple(differs(policy.action, rule, facts) for rule in policy.rules),
    )
