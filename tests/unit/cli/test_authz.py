"""What `seine authz` says beside the policies: ports that nobody looks at, and what a pod accepts at all."""

from __future__ import annotations

import pytest

from mesh.cli.authz import Answer, beside_policies, lines
from mesh.identity.authz import Facts
from mesh.model import Authorization, Mtls
from mesh.observe.status import PodAuthorization
from tests.kit.builders import policy, rule

ANYBODY = "spiffe://cluster.local/ns/default/sa/client"


def pod(**fields: object) -> PodAuthorization:
    named = {"namespace": "default", "name": "web", "identity": "spiffe://x/ns/default/sa/web", "trust_domain": "x"}
    return PodAuthorization(**{**named, "authorization": Authorization(), **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mtls", "identity", "port", "allowed", "words"),
    [
        (Mtls.STRICT, "", 80, False, "refused: it accepts mutual TLS only"),
        (Mtls.STRICT, "", 9090, True, "let through: port 9090 is not captured"),
        (Mtls.PERMISSIVE, ANYBODY, 9090, True, "let through: port 9090 is not captured"),
    ],
)
def test_what_is_decided_before_any_policy_is_asked(
    mtls: Mtls, identity: str, port: int, allowed: bool, words: str
) -> None:
    found = beside_policies(
        pod(mtls=mtls, skip_inbound_ports=(9090,)), Facts(address="10.9.9.9", port=port, identity=identity)
    )
    assert found is not None
    assert (found.allowed, words in found.verdict) == (allowed, True)


@pytest.mark.parametrize("denied", [ANYBODY, "spiffe://x/ns/default/sa/web"], ids=["the caller", "the pod"])
def test_a_denied_identity_is_refused_before_any_policy_is_asked(denied: str) -> None:
    allowing = Authorization(policies=(policy("x", "ALLOW", rule()),))
    found = beside_policies(pod(authorization=allowing, denied=(denied,)), Facts(address="", port=80, identity=ANYBODY))
    assert found is not None
    assert (found.allowed, found.verdict.split(" (")[0]) == (False, f"refused: {denied} is denied")


def test_nobody_has_proven_a_denied_identity_in_plaintext() -> None:
    assert beside_policies(pod(denied=(ANYBODY,)), Facts(address="10.9.9.9", port=80)) is None


@pytest.mark.parametrize(
    ("mtls", "identity"), [(Mtls.STRICT, ANYBODY), (Mtls.PERMISSIVE, ""), (Mtls.DISABLED, ANYBODY)]
)
def test_whom_the_policies_are_asked_about(mtls: Mtls, identity: str) -> None:
    assert beside_policies(pod(mtls=mtls), Facts(address="10.9.9.9", port=80, identity=identity)) is None


@pytest.mark.parametrize(
    ("mtls", "action", "told"),
    [(Mtls.PERMISSIVE, "DENY", True), (Mtls.STRICT, "DENY", False), (Mtls.PERMISSIVE, "ALLOW", False)],
)
def test_who_denies_by_principal_is_told_that_plaintext_has_none(mtls: Mtls, action: str, told: bool) -> None:
    """A captured pod may still bind its socket to a device, and then nobody proves who it is."""
    denying = policy("x", action, rule(principals=["cluster.local/ns/default/sa/client"]))
    text = "\n".join(lines(Answer(pod=pod(mtls=mtls, authorization=Authorization(policies=(denying,))))))
    assert ("whose callers are nobody" in text) == told


def test_a_pod_without_mutual_tls_knows_who_calls_from_its_own_node_alone() -> None:
    assert "its mutual TLS is disabled" in "\n".join(lines(Answer(pod=pod(mtls=Mtls.DISABLED))))
    assert "mutual TLS" not in "\n".join(lines(Answer(pod=pod())))
