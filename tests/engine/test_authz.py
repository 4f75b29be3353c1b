"""The engine's judgement against the meaning that mesh/identity/authz.py gives to the same values, and normal forms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.forward.authz import ARRAYS, Arrays
from mesh.forward.engine import pack_address
from mesh.identity import authz
from mesh.identity.normal import Ambiguous, normal_host, normal_path
from mesh.model import (
    Authorization,
    AuthorizationPolicy,
    AuthzAction,
    AuthzOperation,
    AuthzRule,
    AuthzSource,
    Match,
    Pattern,
)
from tests.engine.build import CEXT, build_script, pure_library
from tests.engine.pages import Guarded
from tests.kit.builders import rule

TCP, HTTP, PASSED = range(3)


class Rules:
    """The C functions; every array and text that they read ends at an unreadable page."""

    def __init__(self, path: Path) -> None:
        declarations = build_script().declarations
        self.ffi: Any = FFI()
        self.ffi.cdef(declarations(CEXT / "authz.h") + declarations(CEXT / "normal.h"))
        self.ffi.cdef("int mprotect(void *, size_t, int);")
        self.lib: Any = self.ffi.dlopen(str(path))
        self._pages: dict[str, Guarded] = {}

    def put(self, where: str, data: bytes) -> Any:
        if where not in self._pages:
            self._pages[where] = Guarded(self.ffi, self.lib)
        return self._pages[where].put(data)

    def compiled(self, authorization: Authorization) -> Any:
        arrays = Arrays(authorization)
        made = self.ffi.new("struct authz *", {"default_deny": arrays.default_deny})
        for name, (kind, counter) in ARRAYS.items():
            values = self.ffi.new(f"{kind}[]", arrays.content[name])
            setattr(made, name, self.ffi.cast(f"{kind} *", self.put(name, bytes(self.ffi.buffer(values)))))
            setattr(made, counter, len(values))
        assert self.lib.authz_valid(made)
        return made

    def facts(self, facts: authz.Facts, known: int = TCP) -> Any:
        made = self.ffi.new("struct authz_facts *", {"client": pack_address(facts.address), "port": facts.port})
        made.known = HTTP if facts.request else known
        if facts.identity:
            made.identity = self.ffi.cast("char *", self.put("identity", facts.identity.encode() + b"\0"))
        for name in ("method", "host", "path"):
            text = getattr(facts.request, name).encode() if facts.request else b""
            setattr(made, name, (self.put(name, text), len(text)))
        return made

    def check(self, authorization: Authorization, facts: authz.Facts, known: int = TCP) -> authz.Verdict:
        compiled, seen = self.compiled(authorization), self.facts(facts, known)
        audits = [i for i, each in enumerate(authorization.policies) if each.action is AuthzAction.AUDIT]
        found = ((i, self.lib.authz_match(compiled, i, seen)) for i in audits)
        return authz.Verdict(
            enforced=self._outcome(authorization, self.lib.authz_check(compiled, seen, 0)),
            trial=self._outcome(authorization, self.lib.authz_check(compiled, seen, 1)),
            audited=tuple(
                authz.Outcome(allowed=True, policy=authorization.policies[i], rule=rule)
                for i, rule in found
                if rule >= 0
            ),
        )

    def _outcome(self, authorization: Authorization, ruling: Any) -> authz.Outcome:
        policy = authorization.policies[ruling.policy] if ruling.policy >= 0 else None
        return authz.Outcome(allowed=bool(ruling.allowed), policy=policy, rule=ruling.rule)


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    return Rules(pure_library(tmp_path_factory.mktemp("pure")))


# --- the same verdict as the meaning

NAMES = ["", "a", "b", "ab", "ba", "a-b"]
IDENTITIES = [
    "",
    *(f"spiffe://cluster.local/ns/{ns}/sa/{account}" for ns in ("shop", "shopping", "") for account in ("web", "w")),
    *("spiffe://other/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/", "spiffe://cluster.local/ns/shop/sa/web/x"),
    *("spiffe://cluster.local/shop", "https://cluster.local/ns/shop/sa/web", "spiffe://", "spiffe:///ns/shop/sa/web"),
]
ADDRESSES = ["10.0.0.1", "10.0.0.130", "10.1.0.1", "192.168.0.1", "fd00::1", "fd00:0:0:1::1", "::1"]
BLOCKS = ["10.0.0.0/8", "10.0.0.0/25", "10.0.0.1/32", "0.0.0.0/0", "::/0", "fd00::/16", "fd00::/63", "fd00::1/128"]
HOSTS = ["", "a", "A.Shop", "shop", "b.shop", "[::1]"]
PATHS = ["/", "/a", "/a/", "/a/b", "/ab", "/b/a", "*"]
METHODS = ["GET", "POST", "PUT", "G"]


def patterns(*texts: str) -> st.SearchStrategy[tuple[Pattern, ...]]:
    """Whole texts and pieces of them, so that near misses are common."""

    def pattern(how: Match, text: str, cut: int) -> Pattern:
        if how is Match.PRESENT:
            return Pattern(how=how)
        pieces = {Match.EXACT: text, Match.PREFIX: text[:cut], Match.SUFFIX: text[-cut:]}
        return Pattern(how=how, text=pieces[how] or "a")

    one = st.builds(pattern, st.sampled_from(Match), st.sampled_from(texts), st.integers(1, 12))
    return st.lists(one, max_size=2).map(tuple)


def some(strategy: Any) -> Any:
    """Mostly absent: a rule with every condition matches nothing."""
    return st.one_of(st.just(()), st.just(()), strategy)


principals = some(patterns(*(each.removeprefix("spiffe://") for each in IDENTITIES)))
namespaces = some(patterns("shop", "shopping"))
blocks = some(st.lists(st.sampled_from(BLOCKS), max_size=2).map(tuple))
ports = some(st.lists(st.sampled_from([80, 443, 65535]), max_size=2).map(tuple))
hosts, methods, paths = (some(patterns(*texts)) for texts in ([each.lower() for each in HOSTS], METHODS, PATHS))
sources = st.builds(
    AuthzSource,
    principals=principals,
    not_principals=principals,
    namespaces=namespaces,
    not_namespaces=namespaces,
    ip_blocks=blocks,
    not_ip_blocks=blocks,
)
operations = st.builds(
    AuthzOperation,
    hosts=hosts,
    not_hosts=hosts,
    ports=ports,
    not_ports=ports,
    methods=methods,
    not_methods=methods,
    paths=paths,
    not_paths=paths,
)
policy_rules = st.builds(
    AuthzRule, sources=st.lists(sources, max_size=2).map(tuple), operations=st.lists(operations, max_size=2).map(tuple)
)
policies = st.builds(
    AuthorizationPolicy,
    namespace=st.just("shop"),
    name=st.sampled_from("abcdef"),
    action=st.sampled_from(AuthzAction),
    rules=st.lists(policy_rules, max_size=3).map(tuple),
    dry_run=st.booleans(),
)
ORDER = (AuthzAction.DENY, AuthzAction.ALLOW, AuthzAction.AUDIT)
authorizations = st.builds(
    Authorization,
    policies=st.lists(policies, max_size=5).map(
        lambda found: tuple(sorted(found, key=lambda p: ORDER.index(p.action)))
    ),
    default_deny=st.booleans(),
)
requests = st.builds(
    authz.Request, method=st.sampled_from(METHODS), host=st.sampled_from(HOSTS), path=st.sampled_from(PATHS)
)
facts = st.builds(
    authz.Facts,
    address=st.sampled_from(ADDRESSES),
    port=st.sampled_from([80, 81, 443, 65535]),
    identity=st.sampled_from(IDENTITIES),
    request=st.none() | requests,
)


def small_host(given_facts: authz.Facts) -> authz.Facts:
    """As mesh.identity.authz has it; the engine compares any case."""
    if given_facts.request is None:
        return given_facts
    request = authz.Request(
        method=given_facts.request.method, host=given_facts.request.host.lower(), path=given_facts.request.path
    )
    return authz.Facts(
        address=given_facts.address, port=given_facts.port, identity=given_facts.identity, request=request
    )


@settings(max_examples=500, deadline=None)
@given(authorization=authorizations, given_facts=facts)
def test_the_engine_judges_as_the_meaning_says(
    rules: Rules, authorization: Authorization, given_facts: authz.Facts
) -> None:
    assert rules.check(authorization, given_facts) == authz.decide(authorization, small_host(given_facts))


KUBERNETES = [
    *IDENTITIES,
    "spiffe://cluster.local/ns/shop/sa/web/",
    "spiffe://cluster.local/ns/shop/sa",
    "spiffe://a/ns/b",
]


@pytest.mark.parametrize("identity", KUBERNETES)
def test_an_identity_has_the_same_principal_and_namespace_to_both(rules: Rules, identity: str) -> None:
    for field in ("principals", "not_principals", "namespaces", "not_namespaces"):
        for text in ("*", "shop", "sho*", "*op", identity.removeprefix("spiffe://") or "x"):
            given_rule = rule(**{field: [text]})
            one = Authorization(policies=(AuthorizationPolicy(namespace="a", name="b", rules=(given_rule,)),))
            seen = authz.Facts(address="10.0.0.1", port=80, identity=identity)
            assert rules.check(one, seen) == authz.decide(one, seen), (field, text)


@settings(max_examples=150, deadline=None)
@given(authorization=authorizations, given_facts=facts.filter(lambda each: each.request is not None))
def test_a_request_nobody_remembers_is_never_judged_harder_than_it_was(
    rules: Rules, authorization: Authorization, given_facts: authz.Facts
) -> None:
    forgotten = authz.Facts(address=given_facts.address, port=given_facts.port, identity=given_facts.identity)
    if rules.check(authorization, given_facts).enforced.allowed:
        assert rules.check(authorization, forgotten, PASSED).enforced.allowed


def test_who_never_passes_does_not_pass_unseen_either(rules: Rules) -> None:
    deny = AuthorizationPolicy(
        namespace="a",
        name="b",
        action=AuthzAction.DENY,
        rules=(AuthzRule(operations=(AuthzOperation(ports=(80,)),)),),
    )
    only = Authorization(policies=(deny,))
    assert not rules.check(only, authz.Facts(address="10.0.0.1", port=80), PASSED).enforced.allowed
    assert rules.check(only, authz.Facts(address="10.0.0.1", port=81), PASSED).enforced.allowed


# --- arrays that do not fit


def test_a_range_beyond_its_array_is_found(rules: Rules) -> None:
    everything = Authorization(
        policies=(
            AuthorizationPolicy(
                namespace="a",
                name="b",
                action=AuthzAction.DENY,
                rules=(
                    AuthzRule(
                        sources=(
                            AuthzSource(
                                principals=(Pattern(how=Match.EXACT, text="x"),),
                                ip_blocks=("10.0.0.0/8",),
                            ),
                        ),
                        operations=(AuthzOperation(ports=(80,), paths=(Pattern(how=Match.PREFIX, text="/"),)),),
                    ),
                ),
            ),
        ),
    )
    for _, counter in list(ARRAYS.values())[1:]:
        made = rules.compiled(everything)
        setattr(made, counter, getattr(made, counter) - 1)
        assert not rules.lib.authz_valid(made), counter
    for damage in (
        "policies[0].action = 3",
        "texts[0].how = 4",
        "blocks[0].bits = 129",
        "rules[0].sources.first = 2**32 - 1",
    ):
        made = rules.compiled(everything)
        field, value = damage.split(" = ")
        target: Any = made
        *steps, last = re.findall(r"\w+", field)
        for step in steps:
            target = target[int(step)] if step.isdigit() else getattr(target, step)
        setattr(target, last, eval(value))
        assert not rules.lib.authz_valid(made), damage


def test_policies_out_of_their_order_are_found(rules: Rules) -> None:
    allow, deny = (AuthorizationPolicy(namespace="a", name="b", action=each) for each in list(AuthzAction)[:2])
    arrays = Arrays(Authorization(policies=(allow, deny)))
    values = rules.ffi.new("struct authz_policy[]", arrays.content["policies"])
    made = rules.ffi.new("struct authz *", {"policies": values, "policy_count": 2})
    assert not rules.lib.authz_valid(made)


def test_what_must_be_known_of_a_request_is_told(rules: Rules) -> None:
    def needs(operation: AuthzOperation) -> tuple[int, int, int]:
        rule = AuthzRule(operations=(AuthzOperation(ports=(1,)), operation))
        made = rules.compiled(Authorization(policies=(AuthorizationPolicy(namespace="a", name="b", rules=(rule,)),)))
        lib = rules.lib
        return lib.authz_needs_http(made), lib.authz_needs_paths(made), lib.authz_needs_hosts(made)

    any_text = (Pattern(how=Match.PRESENT),)
    assert needs(AuthzOperation(not_ports=(1,))) == (0, 0, 0)
    assert needs(AuthzOperation(methods=any_text)) == needs(AuthzOperation(not_methods=any_text)) == (1, 0, 0)
    assert needs(AuthzOperation(paths=any_text)) == needs(AuthzOperation(not_paths=any_text)) == (1, 1, 0)
    assert needs(AuthzOperation(hosts=any_text)) == needs(AuthzOperation(not_hosts=any_text)) == (1, 0, 1)


# --- normal forms


def normal(rules: Rules, path: str) -> str | None:
    data = path.encode("latin-1")
    at = rules.put("path", data)
    length = rules.lib.normal_path(at, len(data))
    return bytes(rules.ffi.buffer(at, length)).decode("latin-1") if length else None


def meant(path: str) -> str | None:
    try:
        return normal_path(path)
    except Ambiguous:
        return None


PIECES = ["/", "/", "/", ".", "..", "a", "b", "%2e", "%2E", "%41", "%7e", "%e4", "%3a", "%2f", "%5C", "%00", "%", "%2",
          "%zz", ";", ";x=1", "\\", "~", ":", "...", "%25", "%252e", "a.b", "%c0%af", "*", "+", "%20",
          "%2a", "%2B", "%3b", "{", "%7b", '"']  # fmt: skip


@settings(max_examples=2000, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map(lambda found: "/" + "".join(found)))
def test_the_engine_finds_the_same_normal_form(rules: Rules, path: str) -> None:
    found = normal(rules, path)
    assert found == meant(path)
    if found is not None:
        assert normal(rules, found) == found
        assert len(found) <= len(path)


@settings(max_examples=1000, deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=255), max_size=40))
def test_any_bytes_at_all_have_one_normal_form_or_none(rules: Rules, path: str) -> None:
    assert normal(rules, "/" + path) == meant("/" + path)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(["a", "B", ".", ":", "80", "[::1]", "%41", "-"]), max_size=6).map("".join))
def test_the_engine_finds_the_same_host(rules: Rules, host: str) -> None:
    data = host.encode()
    length = rules.lib.normal_host(rules.put("host", data), len(data))
    try:
        assert host[:length].lower() == normal_host(host)
    except Ambiguous:
        assert length == -1
