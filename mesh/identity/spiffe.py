"""SPIFFE ids of workloads, read strictly: spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT and nothing else.

There is one spelling of an id, so that equal means equal bytes: nothing is decoded, folded or trimmed, here or anywhere
after. Writing one is mesh.model.spiffe_id. Source: SPIFFE-ID 1.0 sections 2 and 3; the path is Istio's.
"""

from __future__ import annotations

import re

from mesh.model import Value

ID_BYTES_MAX = 2048  # SPIFFE-ID section 2.3: what everybody must be able to take, and nobody may exceed
TRUST_DOMAIN_BYTES_MAX = 255  # section 2.1

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")
_PREFIX = "spiffe://"


class BadId(ValueError):
    """A sentence: what is wrong with it."""


class SpiffeId(Value, frozen=True):
    trust_domain: str
    namespace: str
    service_account: str


def check_trust_domain(name: str) -> str:
    """The same name; BadId when it is none."""
    if len(name) > TRUST_DOMAIN_BYTES_MAX:
        raise BadId(f"a trust domain has at most {TRUST_DOMAIN_BYTES_MAX} characters")
    if not _TRUST_DOMAIN.fullmatch(name):
        raise BadId(f"the trust domain {name!r} may have small letters, digits, '.', '-' and '_'")
    return name


def parse(text: str, trust_domain: str = "") -> SpiffeId:
    """A workload's id, of that trust domain if one is given. Raises BadId."""
    if len(text) > ID_BYTES_MAX or not text.isascii():
        raise BadId(f"an id has at most {ID_BYTES_MAX} characters, all ASCII")
    if not text.startswith(_PREFIX):
        raise BadId(f"{_short(text)} does not begin with {_PREFIX}")
    domain, slash, path = text.removeprefix(_PREFIX).partition("/")
    _check_authority(domain, text)
    if trust_domain and domain != trust_domain:
        raise BadId(f"{_short(text)} is of the trust domain {domain}, not of {trust_domain}")
    for sign, what in (("?", "a query"), ("#", "a fragment"), ("%", "an escape")):
        if sign in path:
            raise BadId(f"{_short(text)} has {what}")
    segments = path.split("/") if slash else []
    if len(segments) != 4 or (segments[0], segments[2]) != ("ns", "sa"):
        raise BadId(f"the path of {_short(text)} is not /ns/NAMESPACE/sa/SERVICE-ACCOUNT")
    if not all(_SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in segments):
        raise BadId(f"a name in {_short(text)} is empty, '.', '..' or has other than letters, digits, '.', '-' and '_'")
    return SpiffeId(trust_domain=domain, namespace=segments[1], service_account=segments[3])


def _check_authority(domain: str, text: str) -> None:
    if "@" in domain:
        raise BadId(f"{_short(text)} has a user")
    if ":" in domain:
        raise BadId(f"{_short(text)} has a port")
    check_trust_domain(domain)


def _short(text: str) -> str:
    """For a sentence: strangers write these."""
    return repr(text if len(text) <= 100 else text[:97] + "...")
