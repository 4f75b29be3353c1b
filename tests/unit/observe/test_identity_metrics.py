from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families as parse

from mesh.observe import identity_metrics
from mesh.observe.exposition import render
from mesh.observe.status import IdentityStatus
from tests.unit.observe.values import WEB_ID, document, identity


def samples(given: IdentityStatus) -> dict[str, float]:
    text = render(identity_metrics.offers(document(identity=given))).content.decode()
    found = (s for family in parse(text) for s in family.samples if s.name.startswith("seine_"))
    return {"/".join([s.name.removeprefix("seine_identity_"), *s.labels.values()]): s.value for s in found}


def test_what_ends_when_what_failed_and_what_was_refused() -> None:
    assert samples(identity()) == {
        f"certificate_expiry_timestamp_seconds/{WEB_ID}": 1080.0,
        "certificates_missing": 1,
        "root_expiry_timestamp_seconds/aa00/issuing": 1e9,
        "authority_age_seconds": 10.0,
        "authority_clock_skew_seconds": -1.5,
        "authority_failures_total/unreachable": 7,
        "certificates_total/issued": 3,
        "certificates_total/renewed": 2,
        "denied": 1,
        "signatures_total": 12,
        "signatures_refused_total/content": 1,
        "seine_signer_up": 1,
        "seine_signer_restarts_total": 1,
        "seine_signer_keys": 2,
    }


def test_an_authority_that_never_answered_is_as_old_as_the_agent() -> None:
    assert samples(IdentityStatus(authority="directory /x"))["authority_age_seconds"] == 120.0
    assert "authority_age_seconds" not in samples(IdentityStatus())
