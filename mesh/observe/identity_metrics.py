"""The status document's identities as metric families."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.observe import families as f
from mesh.observe.exposition import Offer, plain
from mesh.observe.status import StatusDocument


def offers(document: StatusDocument) -> Iterator[Offer]:
    identity = document.identity
    held = [each for each in identity.certificates if each.serial]
    yield f.CERTIFICATE_END, plain(lambda: (((each.name,), each.not_after) for each in held))
    yield f.CERTIFICATES_MISSING, plain(lambda: [((), len(identity.certificates) - len(held))])
    yield f.ROOT_END, plain(lambda: (((root.id, root.state), root.not_after) for root in identity.roots))
    age = max(0.0, document.taken_at - identity.answered_at) if identity.answered_at else document.uptime_seconds
    yield f.AUTHORITY_AGE, plain(lambda: [((), age)] if identity.authority else [])
    yield f.AUTHORITY_SKEW, plain(lambda: [((), identity.skew_seconds)] if identity.answered_at else [])
    yield f.AUTHORITY_FAILURES, plain(lambda: (((reason,), n) for reason, n in identity.failures.items()))
    yield f.CERTIFICATES, plain(lambda: (((event,), n) for event, n in identity.events.items()))
    yield f.DENIED, plain(lambda: [((), len(identity.denied))])
    yield f.SIGNATURES, plain(lambda: [((), identity.signer.signatures)])
    yield f.SIGNATURES_REFUSED, plain(lambda: (((why,), n) for why, n in identity.signer.refused.items()))
    yield f.SIGNER_UP, plain(lambda: [((), float(identity.signer.up))])
    yield f.SIGNER_RESTARTS, plain(lambda: [((), identity.signer.restarts)])
    yield f.SIGNER_KEYS, plain(lambda: [((), identity.signer.keys)])
