"""Which agent may have a certificate for whom, from what an API server says."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mesh.controlplane import node_rule
from mesh.identity.authority import AuthorityError
from mesh.identity.spiffe import SpiffeId

HOME, NODE = "seine-system", "node-a"
EXTRA = "authentication.kubernetes.io/"
REVIEW = {
    "status": {
        "authenticated": True,
        "audiences": ["authority.seine.dev"],
        "user": {
            "username": "system:serviceaccount:seine-system:seine-agent",
            "extra": {f"{EXTRA}pod-name": ["agent-1"], f"{EXTRA}pod-uid": ["u1"], f"{EXTRA}node-name": [NODE]},
        },
    }
}
CALLER = node_rule.Caller(namespace=HOME, pod="agent-1", uid="u1", node=NODE)
AGENT = {"metadata": {"uid": "u1"}, "spec": {"nodeName": NODE}, "status": {"phase": "Running"}}
WEB = SpiffeId(trust_domain="cluster.local", namespace="shop", service_account="web")


def pod(namespace="shop", account="web", node=NODE, phase="Running"):
    spec = {"nodeName": node, "serviceAccountName": account}
    return {"metadata": {"namespace": namespace}, "spec": spec, "status": {"phase": phase}}


def changed(path, value):
    made = copy.deepcopy(REVIEW)
    at: Any = made["status"]
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return made


def refused(reason, words, work, *arguments):
    with pytest.raises(AuthorityError, match=words) as caught:
        work(*arguments)
    assert caught.value.reason == reason


def test_a_token_of_the_nodes_own_agent_is_good():
    assert node_rule.caller(REVIEW, HOME, NODE) == CALLER
    node_rule.check_alive(CALLER, AGENT)
    assert CALLER.path == "/api/v1/namespaces/seine-system/pods/agent-1"


@pytest.mark.parametrize(
    ("review", "reason", "words"),
    [
        ({}, "token", "the API server does not know it"),
        ({"status": {"authenticated": False, "error": "token expired"}}, "token", "token expired"),
        ({"status": {"error": "invalid bearer token, token audiences [x]"}}, "audience", "audiences"),
        (changed(["audiences"], []), "audience", "not for the audience authority.seine.dev"),
        (changed(["audiences"], ["https://kubernetes.default"]), "audience", "not for the audience"),
        (changed(["user", "username"], "admin"), "account", "is that of admin"),
        (changed(["user", "username"], "system:serviceaccount:shop:seine-agent"), "account", "is that of"),
        (changed(["user", "extra", f"{EXTRA}node-name"], []), "token", "does not say its node-name"),
        (changed(["user", "extra", f"{EXTRA}pod-uid"], [""]), "token", "does not say its pod-uid"),
        (changed(["user", "extra", f"{EXTRA}pod-name"], ["a", "b"]), "token", "does not say its pod-name"),
        (changed(["user", "extra"], None), "token", "does not say its pod-name"),
        (changed(["user", "extra", f"{EXTRA}node-name"], ["node-b"]), "node", "on node node-b, not on node-a"),
    ],
)
def test_any_other_token_is_refused_with_its_reason(review, reason, words):
    refused(reason, words, node_rule.caller, review, HOME, NODE)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "is gone"),
        (AGENT | {"metadata": {"uid": "u2"}}, "is gone"),
        (AGENT | {"metadata": {"uid": "u1", "deletionTimestamp": "2030-01-01T00:00:00Z"}}, "is being deleted"),
        (AGENT | {"status": {"phase": "Failed"}}, "does not run on node node-a"),
        (AGENT | {"spec": {"nodeName": "node-b"}}, "does not run on node node-a"),
    ],
)
def test_a_token_ends_with_its_pod(found, words):
    refused("pod", words, node_rule.check_alive, CALLER, found)


def test_a_node_has_the_identities_of_its_own_pods():
    node_rule.check_bound(WEB, NODE, [pod(account="db"), pod()])
    node_rule.check_bound(WEB, NODE, [pod(phase="Pending")])


@pytest.mark.parametrize(
    "pods",
    [
        [],
        [pod(node="node-b")],
        [pod(namespace="other")],
        [pod(account="db")],
        [pod(account="")],
        [pod(phase="Succeeded"), pod(phase="Failed")],
    ],
    ids=["none", "another node", "another namespace", "another account", "a static pod", "ended"],
)
def test_and_no_others(pods):
    refused("workload", "no pod on node node-a runs as shop/web", node_rule.check_bound, WEB, NODE, pods)


def test_an_identity_of_elsewhere_is_refused():
    refused(
        "refused", "of the trust domain other.org", node_rule.wanted, "spiffe://other.org/ns/a/sa/b", "cluster.local"
    )
    assert node_rule.wanted("spiffe://cluster.local/ns/shop/sa/web", "cluster.local") == WEB


def test_only_pods_that_matter_are_asked_for():
    assert node_rule.pods_path(WEB, NODE) == (
        "/api/v1/namespaces/shop/pods?fieldSelector=spec.nodeName%3Dnode-a%2Cspec.serviceAccountName%3Dweb"
    )
