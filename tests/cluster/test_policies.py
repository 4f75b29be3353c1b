"""A real API server takes the definition of our policies, and accepts and refuses what our parser does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mesh.kube import policy
from tests.cluster.api import ApiError
from tests.cluster.cluster import Cluster
from tests.kit.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
TABLE = yaml.safe_load((ROOT / "tests/vectors/authorization_policies.yaml").read_text())
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PLURAL = "authorizationpolicies"


@pytest.fixture(scope="module")
def taken(cluster: Cluster) -> Iterator[Cluster]:
    """With the definition, which it judges too: its patterns, its expressions and what these may cost."""
    cluster.api.create(DEFINITIONS, yaml.safe_load((ROOT / f"deploy/crds/{PLURAL}.yaml").read_text()))
    eventually(lambda: refusal(cluster, {}) == "", "objects of it to be taken")
    yield cluster
    cluster.api.delete(f"{DEFINITIONS}/{PLURAL}.seine.dev")


def refusal(cluster: Cluster, spec: Any) -> str:
    """As kubectl asks; nothing is kept."""
    body = {"apiVersion": "seine.dev/v1alpha1", "kind": "AuthorizationPolicy", "metadata": {"name": "a"}, "spec": spec}
    path = f"/apis/seine.dev/v1alpha1/namespaces/default/{PLURAL}?dryRun=All&fieldValidation=Strict"
    try:
        cluster.api.create(path, body)
    except ApiError as error:
        if error.status not in (400, 404, 422):  # malformed, not served yet, invalid
            raise
        return str(error)
    return ""


def test_values_are_accepted_and_refused_as_by_the_parser(taken: Cluster) -> None:
    wrong = []
    for kind, sorts in TABLE["values"].items():
        template = json.dumps(TABLE["templates"][kind])
        for value in (*sorts["good"], *sorts["bad"]):
            said = refusal(taken, json.loads(template.replace('"{V}"', json.dumps(value))))
            if bool(said) == (value in sorts["good"]):
                wrong.append((kind, value, said))
    assert wrong == []


@pytest.mark.parametrize("case", TABLE["specs"], ids=lambda case: case["name"])
def test_specs_are_accepted_and_refused_as_by_the_parser(taken: Cluster, case: dict[str, Any]) -> None:
    assert bool(refusal(taken, case["spec"])) == bool(case.get("refused"))


def test_who_is_refused_hears_our_own_sentence(taken: Cluster) -> None:
    assert "conditions are not evaluated" in refusal(taken, {"rules": [{"when": [{"key": "x", "values": ["y"]}]}]})
    assert "without rules matches nothing" in refusal(taken, {"action": "DENY"})


def test_the_largest_policy_that_is_allowed_is_taken(taken: Cluster) -> None:
    """Expressions are reckoned for it beforehand; this one is asked for."""
    source = {"source": {"principals": ["a/ns/b/sa/c"] * policy.VALUES_MAX}}
    assert refusal(taken, {"rules": [{"from": [source] * 4}] * policy.RULES_MAX}) == ""
