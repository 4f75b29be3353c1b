"""What an AuthorizationPolicy may say, by the same table for the parser and for the schema of API servers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mesh.identity.normal import Ambiguous, normal_path
from mesh.kube import policy
from mesh.kube.parse import decode, parse
from mesh.kube.settings import BadField, spelled
from mesh.model import AuthorizationPolicy, AuthzAction
from tests.kit.builders import pattern, rule
from tests.kit.crd import Definition, nodes

ROOT = Path(__file__).resolve().parents[3]
TABLE = yaml.safe_load((ROOT / "tests/vectors/authorization_policies.yaml").read_text())
CRD = Definition(ROOT / "deploy/crds/authorizationpolicies.yaml")


def whole(spec: dict[str, Any], **annotations: str) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "shop", "annotations": annotations}
    return {"apiVersion": "seine.dev/v1alpha1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def parsed(spec: dict[str, Any], **annotations: str) -> AuthorizationPolicy:
    facts = parse(decode(whole(spec, **annotations), "AuthorizationPolicy"))
    assert isinstance(facts, policy.PolicyFacts)
    return facts.policy


def refusal(spec: dict[str, Any]) -> BadField | None:
    try:
        parsed(spec)
    except BadField as error:
        return error
    return None


def with_value(kind: str, value: str) -> dict[str, Any]:
    """The template's spec, with this one value in its list."""
    return json.loads(json.dumps(TABLE["templates"][kind]).replace('"{V}"', json.dumps(value)))  # type: ignore[no-any-return]


VALUES = [
    (kind, value, sort == "good") for kind, sorts in TABLE["values"].items() for sort in sorts for value in sorts[sort]
]


@pytest.mark.parametrize(("kind", "value", "good"), VALUES)
def test_a_value_is_accepted_or_refused_by_both(kind: str, value: str, good: bool) -> None:
    spec = with_value(kind, value)
    error = refusal(spec)
    assert (error is None, not CRD.refusals(whole(spec))) == (good, good), (error, CRD.refusals(whole(spec)))
    if error is not None:
        assert spelled(error.path).endswith("[0]")


@pytest.mark.parametrize("case", TABLE["specs"], ids=lambda case: case["name"])
def test_a_spec_is_accepted_or_refused_by_both(case: dict[str, Any]) -> None:
    error, refused = refusal(case["spec"]), case.get("refused")
    assert (spelled(error.path) if error else None) == refused
    assert bool(CRD.refusals(whole(case["spec"]))) == bool(refused)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(
    ("spec", "most"),
    [
        (lambda n: {"rules": [{}] * n}, policy.RULES_MAX),
        (lambda n: {"rules": [{"from": [{"source": {"principals": ["a/ns/b/sa/c"]}}] * n}]}, policy.ALTERNATIVES_MAX),
        (lambda n: {"rules": [{"to": [{"operation": {"ports": ["1"]}}] * n}]}, policy.ALTERNATIVES_MAX),
        (lambda n: {"rules": [{"to": [{"operation": {"ports": ["1"] * n}}]}]}, policy.VALUES_MAX),
        (lambda n: {"rules": [{"to": [{"operation": {"paths": ["/" + "a" * (n - 1)]}}]}]}, policy.TEXT_MAX),
        (lambda n: {"selector": {"matchLabels": {str(i): "a" for i in range(n)}}}, policy.LABELS_MAX),
        (lambda n: {"selector": {"matchLabels": {"a": "a" * n}}}, policy.LABEL_MAX),
    ],
)
def test_both_have_the_same_limits(spec: Any, most: int, count: int) -> None:
    given_spec = spec(most + count)
    assert bool(refusal(given_spec)) == bool(CRD.refusals(whole(given_spec))) == bool(count)


def test_the_schema_has_the_parsers_patterns() -> None:
    operation = CRD.schema["properties"]["spec"]["properties"]["rules"]["items"]["properties"]["to"]["items"]
    items = {
        name: part["items"].get("pattern") for name, part in operation["properties"]["operation"]["properties"].items()
    }
    wanted = {"hosts": policy.HOST, "ports": policy.PORT, "methods": policy.METHOD, "paths": policy.PATH}
    assert items == wanted | {f"not{name.title()}": form for name, form in wanted.items()}


def test_the_schema_is_structural_and_says_what_everything_is_for() -> None:
    for path, node in nodes(CRD.schema):
        assert "type" in node, path
        if "properties" in path and node["type"] in ("array", "object") and path.count(".") > 3:
            assert "description" in node or "items" in path.rsplit(".", 1)[-1], path
        assert "(?" not in node.get("pattern", ""), f"{path}: RE2 has no lookahead"
    assert (CRD.kind, CRD.version) == ("AuthorizationPolicy", "seine.dev/v1alpha1")


# --- what it means


def test_a_policy_as_people_write_it() -> None:
    found = parsed(
        {
            "selector": {"matchLabels": {"tier": "back", "app": "web"}},
            "action": "DENY",
            "rules": [
                {
                    "from": [{"source": {"notPrincipals": ["*/sa/web"], "ipBlocks": ["10.1.2.3/8", "FD00::0/16"]}}],
                    "to": [{"operation": {"hosts": ["Shop.Example."], "ports": ["80"], "paths": ["/caf%c3%a9*"]}}],
                }
            ],
        },
        **{"seine.dev/dry-run": "true"},
    )
    assert found == AuthorizationPolicy(
        namespace="shop",
        name="a",
        action=AuthzAction.DENY,
        selector=(("app", "web"), ("tier", "back")),
        rules=(
            rule(
                not_principals=["*/sa/web"],
                ip_blocks=["10.0.0.0/8", "fd00::/16"],
                hosts=["shop.example"],
                ports=[80],
                paths=["/caf%C3%A9*"],
            ),
        ),
        dry_run=True,
    )


def test_it_is_in_the_default_namespace_unless_it_says_so() -> None:
    facts = parse(decode({"metadata": {"name": "a"}}, "AuthorizationPolicy"))
    assert isinstance(facts, policy.PolicyFacts)
    assert facts.title == "AuthorizationPolicy default/a"
    assert facts.policy == AuthorizationPolicy(namespace="default", name="a")


def test_a_dry_run_is_true_or_false() -> None:
    with pytest.raises(BadField, match="true or false"):
        parsed({}, **{"seine.dev/dry-run": "yes"})
    assert not parsed({}, **{"seine.dev/dry-run": "false"}).dry_run


@pytest.mark.parametrize("text", ["*", "/a", "/a*", "*a"])
def test_patterns_are_shown_as_they_were_written(text: str) -> None:
    assert str(pattern(text)) == text


DOTS = ["/", "/", ".", "..", "...", ";", "%2e"]
PIECES = [*DOTS, "a", "{", "%7B", "%41", "%7e", "%E4", "%3A", ":", "%2F", "%5C", "%00", "%", "%3B", "~", "%25"]
PARTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)


@given(st.lists(st.sampled_from([*PIECES, "?", "#"]), max_size=8).map(lambda found: "/" + "".join(found)))
def test_an_exact_path_is_accepted_when_it_is_in_normal_form(path: str) -> None:
    """Otherwise it could never match. Escapes may be written in small letters: they are kept in capitals."""
    kept = re.sub("%..", lambda escape: escape[0].upper(), path)
    try:
        normal = normal_path(path) == kept and "?" not in path and "#" not in path
    except Ambiguous:
        normal = False
    assert (refusal(with_value("paths", path)) is None) == normal


@given(PARTS, PARTS)
def test_what_a_path_in_normal_form_begins_or_ends_with_is_accepted(start: str, end: str) -> None:
    try:
        path = normal_path(f"/{start}{end}")
    except Ambiguous:
        return
    cuts = [cut for cut in range(1, len(path)) if "%" not in path[max(0, cut - 2) : cut]]
    for cut in cuts:
        assert refusal(with_value("paths", f"{path[:cut]}*")) is None
        assert refusal(with_value("paths", f"*{path[cut:]}")) is None
