"""What a policy's status says."""

from __future__ import annotations

from msgspec import structs

from mesh.controlplane import verdicts
from mesh.kube.objects import AuthorizationPolicy, Condition
from mesh.kube.parse import decode

NOON, LATER = "2030-01-01T12:00:00Z", "2030-01-01T13:00:00Z"


def policy(spec, **metadata):
    made = decode({"metadata": {"namespace": "shop", "name": "p", **metadata}, "spec": spec}, "AuthorizationPolicy")
    assert isinstance(made, AuthorizationPolicy)
    return made


def said(spec, selects=True, generation=3, **metadata):
    found = verdicts.judged(policy(spec, **metadata))
    return {each.type: each for each in verdicts.verdict(found, selects, generation)}


def test_a_good_policy_with_pods_is_accepted_and_resolved():
    found = said({"selector": {"matchLabels": {"app": "web"}}})
    assert [(each.status, each.reason) for each in found.values()] == [("True", "Accepted"), ("True", "ResolvedRefs")]
    assert {each.observed_generation for each in found.values()} == {3}


def test_a_selector_that_is_about_nobody_is_told():
    found = said({"selector": {"matchLabels": {"app": "wbe"}}}, selects=False)["ResolvedRefs"]
    assert (found.status, found.reason) == ("False", "NoPodSelected")
    assert found.message == "no pod of namespace shop has app=wbe: it is about nobody now"


def test_what_agents_refuse_is_told_with_their_sentence():
    found = said({"rules": [{"from": [{"source": {"ipBlocks": ["10.0.0.300"]}}]}]})
    assert (found["Accepted"].status, found["Accepted"].reason) == ("False", "Invalid")
    assert "rules[0].from[0].source.ipBlocks[0]" in found["Accepted"].message
    assert found["ResolvedRefs"].status == "False"


def test_a_dry_run_is_told_to_be_one():
    assert "dry run" in said({}, annotations={"seine.dev/dry-run": "true"})["Accepted"].message


def test_one_pod_is_asked_for_where_the_policy_is_about_them():
    def path(namespace, spec):
        found = verdicts.judged(policy(spec, namespace=namespace))
        assert not isinstance(found, str)
        return verdicts.pods_path(found, "seine-system")

    spec = {"selector": {"matchLabels": {"app": "web", "a/b": "c"}}}
    assert path("shop", spec) == "/api/v1/namespaces/shop/pods?labelSelector=a%2Fb%3Dc%2Capp%3Dweb&limit=1"
    assert path("seine-system", {}) == "/api/v1/pods?labelSelector=&limit=1"


def test_a_status_is_written_only_when_it_says_something_new_and_keeps_its_time():
    first = verdicts.verdict("broken", False, 1)
    written = verdicts.due((), first, NOON)
    assert written is not None
    assert {each.last_transition_time for each in written} == {NOON}
    assert verdicts.due(written, first, LATER) is None
    again = verdicts.due(written, verdicts.verdict("broken", False, 2), LATER)
    assert again is not None
    assert {(each.observed_generation, each.last_transition_time) for each in again} == {(2, NOON)}
    turned = verdicts.due(written, verdicts.verdict(_good(), True, 3), LATER)
    assert turned is not None
    assert {each.last_transition_time for each in turned} == {LATER}


def test_conditions_of_others_are_not_ours_to_compare():
    own = verdicts.due((), verdicts.verdict("broken", False, 1), NOON) or ()
    assert verdicts.due((*own, Condition(type="Theirs")), verdicts.verdict("broken", False, 1), LATER) is None


def test_a_long_reason_is_cut():
    assert len(verdicts.verdict("x" * 5000, False, 1)[0].message) == verdicts.MESSAGE_MAX
    assert structs.asdict(verdicts.verdict("x", False, 1)[0])["message"].endswith("x")


def _good():
    found = verdicts.judged(policy({}))
    assert not isinstance(found, str)
    return found
