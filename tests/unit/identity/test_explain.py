"""A verdict, and why not another one."""

from __future__ import annotations

from mesh.identity.authz import Facts, Request
from mesh.identity.explain import explain
from mesh.model import Authorization, AuthorizationPolicy
from tests.kit.builders import policy, rule

ADMIN = policy("admin", "DENY", rule(methods=["PUT"]), rule(paths=["/admin*"]))
WEB = policy("web", "ALLOW", rule(namespaces=["shop"]))


def asked(path: str = "/", identity: str = "spiffe://a/ns/shop/sa/web", host: str = "") -> Facts:
    return Facts(identity=identity, address="", port=0, request=Request(method="GET", host=host, path=path))


def said(*policies: AuthorizationPolicy, deny: bool = False) -> Authorization:
    return Authorization(policies=policies, default_deny=deny)


def test_what_decides_is_named_and_all_else_says_why_it_does_not_match() -> None:
    found = explain(said(ADMIN, WEB), asked("/admin/x"))
    assert (found.allowed, found.verdict) == (False, "denied by DENY default/admin, rule 1")
    assert [each.rules for each in found.policies] == [("method GET is not one of PUT", ""), ("",)]


def test_without_a_match_the_default_is_named() -> None:
    stranger = asked(identity="")
    assert explain(said(), stranger).verdict == "allowed, because no DENY matches and there is no ALLOW"
    assert explain(said(deny=True), stranger).verdict == "denied, because that is the default of its namespace"
    found = explain(said(ADMIN, WEB), stranger)
    assert found.verdict == "denied, because no ALLOW matches"
    assert found.policies[1].rules == ("namespace is not known, and so is not one of shop",)


def test_the_spelling_that_is_judged_is_told_where_rules_look_at_paths() -> None:
    found = explain(said(ADMIN), asked("/x/../%61dmin"))
    assert found.notes == ("the path is judged, and forwarded, as /admin",)
    assert not found.allowed
    assert explain(said(WEB), asked("/x/../admin")).notes == ()


def test_what_could_be_read_in_two_ways_is_refused_where_rules_look_at_it() -> None:
    found = explain(said(ADMIN), asked("/a%2fb"))
    assert not found.allowed
    assert found.verdict.startswith("refused with 400, because it could be read in two ways: %2f")
    assert explain(said(WEB), asked("/a%2fb")).allowed
    hosts = policy("hosts", "ALLOW", rule(hosts=["a.example"]))
    assert explain(said(hosts), asked(host="A.example:80")).allowed
    assert "400" in explain(said(hosts), asked(host="%61.example")).verdict


def test_dry_runs_and_audits_are_notes() -> None:
    dry, audit = policy("dry", "ALLOW", rule(ports=[1]), dry_run=True), policy("watch", "AUDIT", rule())
    found = explain(said(dry, audit), asked())
    assert found.allowed
    would, told = "without dry runs it would be denied, because no ALLOW matches", "told by AUDIT default/watch, rule 0"
    assert found.notes == (would, told)
    assert found.policies[0].dry_run
