"""Who may call: the sentences of Istio's documentation, one by one. The engine agrees: tests/engine/test_authz.py."""

from __future__ import annotations

import pytest

from mesh.identity.authz import Facts, Request, decide, differs, namespace_of, within
from mesh.model import Authorization, AuthorizationPolicy, AuthzAction
from tests.kit.builders import policy, rule

WEB = "spiffe://cluster.local/ns/shop/sa/web"
EVERYTHING, NOTHING = policy("everything", "ALLOW", rule()), policy("nothing", "ALLOW")


def facts(identity: str = WEB, address: str = "10.0.0.1", port: int = 80, request: str = "") -> Facts:
    """`request`: METHOD HOST PATH; empty: not HTTP."""
    method, host, path = request.split() if request else ("", "", "")
    seen = Request(method=method, host=host, path=path) if request else None
    return Facts(identity=identity, address=address, port=port, request=seen)


def allowed(*policies: AuthorizationPolicy, given: Facts | None = None, default_deny: bool = False) -> bool:
    authorization = Authorization(policies=policies, default_deny=default_deny)
    return decide(authorization, given or facts()).enforced.allowed


# --- which policy decides


def test_without_any_policy_everybody_may() -> None:
    assert allowed()


def test_where_the_default_is_deny_nobody_may_without_an_allow() -> None:
    assert not allowed(default_deny=True)
    assert allowed(EVERYTHING, default_deny=True)


def test_an_allow_without_rules_allows_nothing() -> None:
    assert not allowed(NOTHING)
    assert allowed(NOTHING, EVERYTHING)


def test_with_an_allow_only_what_matches_may() -> None:
    only = policy("web", "ALLOW", rule(principals=["cluster.local/ns/shop/sa/web"]))
    assert allowed(only)
    assert not allowed(only, given=facts("spiffe://cluster.local/ns/shop/sa/other"))


def test_a_deny_that_matches_beats_every_allow() -> None:
    deny = policy("deny", "DENY", rule(ports=[80]))
    verdict = decide(Authorization(policies=(deny, EVERYTHING)), facts())
    assert (verdict.enforced.allowed, verdict.enforced.policy, verdict.enforced.rule) == (False, deny, 0)


def test_a_deny_that_does_not_match_allows_nothing_by_itself() -> None:
    deny = policy("deny", "DENY", rule(ports=[443]))
    assert allowed(deny)
    assert not allowed(deny, NOTHING)


def test_an_audit_is_told_and_changes_nothing() -> None:
    audit, silent = policy("audit", "AUDIT", rule(ports=[1]), rule()), policy("silent", "AUDIT", rule(ports=[1]))
    verdict = decide(Authorization(policies=(audit, silent)), facts())
    assert verdict.enforced.allowed
    assert [(each.policy, each.rule) for each in verdict.audited] == [(audit, 1)]


def test_a_dry_run_is_told_and_changes_nothing() -> None:
    dry = policy("dry", "DENY", rule(), dry_run=True)
    verdict = decide(Authorization(policies=(dry,)), facts())
    assert verdict.enforced.allowed
    assert not verdict.trial.allowed
    assert verdict.trial.policy is dry


def test_a_dry_allow_locks_nobody_out_but_says_that_it_would() -> None:
    dry = policy("dry", "ALLOW", rule(ports=[1]), dry_run=True)
    verdict = decide(Authorization(policies=(dry,)), facts())
    assert (verdict.enforced.allowed, verdict.trial.allowed) == (True, False)


# --- when a rule matches


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({}, True),
        ({"principals": ["x", "cluster.local/ns/shop/*"]}, True),
        ({"principals": ["*/sa/web"]}, True),
        ({"principals": ["*"]}, True),
        ({"principals": [WEB]}, False),
        ({"principals": ["cluster.local/ns/shop/sa/we"]}, False),
        ({"not_principals": ["*/sa/web"]}, False),
        ({"principals": ["*"], "not_principals": ["*/sa/other"]}, True),
        ({"namespaces": ["shop"]}, True),
        ({"namespaces": ["sho*"], "not_namespaces": ["*op"]}, False),
        ({"namespaces": ["sa"]}, False),
        ({"ip_blocks": ["10.0.0.0/8"], "not_ip_blocks": ["10.0.0.1/32"]}, False),
        ({"ip_blocks": ["fd00::/8", "10.0.0.0/31"]}, True),
        ({"ports": [80, 81], "not_ports": [82]}, True),
        ({"not_ports": [80]}, False),
        ({"hosts": ["*.example"], "methods": ["GET"], "paths": ["/a*"]}, True),
        ({"hosts": ["*.example"], "methods": ["POST"], "paths": ["/a*"]}, False),
        ({"not_hosts": ["shop.example"]}, False),
        ({"not_paths": ["/b", "/a"]}, True),
        ({"not_methods": ["*"]}, False),
        ({"namespaces": ["shop"], "ports": [81]}, False),
    ],
)
def test_all_that_a_rule_says_must_hold(fields: dict[str, list[str]], holds: bool) -> None:
    given = facts(request="GET shop.example /a/b")
    assert (differs(AuthzAction.ALLOW, rule(**fields), given) == "") == holds


def test_one_source_and_one_operation_are_enough() -> None:
    first, second = rule(principals=["x"], ports=[1]), rule(namespaces=["shop"], ports=[80])
    both = type(first)(sources=first.sources + second.sources, operations=first.operations + second.operations)
    assert differs(AuthzAction.DENY, both, facts()) == ""
    assert differs(AuthzAction.DENY, both, facts(port=2)) == "port 2 is not one of 80"


def test_who_has_proven_nothing_matches_no_name_and_so_every_negation() -> None:
    nobody = facts(identity="")
    for name in ("principals", "namespaces"):
        assert differs(AuthzAction.ALLOW, rule(**{name: ["*"]}), nobody)
        assert differs(AuthzAction.ALLOW, rule(**{f"not_{name}": ["*"]}), nobody) == ""


@pytest.mark.parametrize(
    ("identity", "namespace"),
    [
        (WEB, "shop"),
        ("spiffe://td/ns/a/sa/b/c", ""),
        ("spiffe://td/ns/a/sa/", ""),
        ("spiffe:///ns/a/sa/b", ""),
        ("spiffe://td/x/a/sa/b", ""),
        ("td/ns/a/sa/b", ""),
        ("", ""),
    ],
)
def test_only_a_kubernetes_identity_has_a_namespace(identity: str, namespace: str) -> None:
    assert namespace_of(identity) == namespace


def test_an_ipv6_block_holds_no_ipv4_address() -> None:
    assert not within("::/0", "10.0.0.1")
    assert within("::/0", "fd00::1")
    assert not within("0.0.0.0/0", "fd00::1")


# --- what is not HTTP


def test_without_http_an_allow_rule_that_names_any_of_it_does_not_match() -> None:
    for fields in ({"paths": ["*"]}, {"not_methods": ["GET"]}, {"hosts": ["a"], "ports": [80]}):
        assert "not HTTP" in differs(AuthzAction.ALLOW, rule(**fields), facts())


def test_nor_does_its_other_operation_that_needs_no_http() -> None:
    """Istio leaves out the rule, not the operation."""
    both = type(rule())(operations=rule(paths=["/"]).operations + rule(ports=[80]).operations)
    assert differs(AuthzAction.ALLOW, both, facts())
    assert differs(AuthzAction.DENY, both, facts()) == ""


def test_without_http_a_deny_rule_matches_by_what_remains_of_it() -> None:
    deny = policy("deny", "DENY", rule(ports=[80], methods=["POST"]))
    assert not allowed(deny)
    assert allowed(deny, given=facts(port=81))
    assert allowed(deny, given=facts(request="GET a /"))


# --- why not


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"principals": ["a", "b*"]}, "principal cluster.local/ns/shop/sa/web is not one of a, b*"),
        ({"not_namespaces": ["sh*"]}, "namespace shop is excluded by sh*"),
        ({"ip_blocks": ["10.1.0.0/16"]}, "address 10.0.0.1 is not one of 10.1.0.0/16"),
        ({"methods": ["POST"]}, "method GET is not one of POST"),
        ({"paths": ["/b*"]}, "path /a is not one of /b*"),
    ],
)
def test_the_first_condition_that_does_not_hold_is_named(fields: dict[str, list[str]], reason: str) -> None:
    assert differs(AuthzAction.ALLOW, rule(**fields), facts(request="GET a /a")) == reason


def test_so_is_what_is_not_known() -> None:
    assert (
        differs(AuthzAction.ALLOW, rule(namespaces=["a"]), facts(identity=""))
        == "namespace is not known, and so is not one of a"
    )
