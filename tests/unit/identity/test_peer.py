"""Who a chain of certificates proves, and why another one proves nobody."""

from __future__ import annotations

import time
from collections.abc import Collection

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from mesh.identity.issue import Issuer, make_leaf, make_root, new_key
from mesh.identity.peer import Unproven, is_denied, prove
from tests.kit.pki import DAY, Authority, Certificate

DOMAIN = "cluster.local"
WEB = f"spiffe://{DOMAIN}/ns/shop/sa/web"
AUTHORITY = Authority()


def proven(
    chain: tuple[bytes, ...], denied: Collection[str] = (), by_server: bool = True, now: float | None = None
) -> str:
    roots = (Authority("unrelated").root.der, AUTHORITY.root.der)
    return prove(chain, roots, DOMAIN, denied, time.time() if now is None else now, by_server)


def why(chain: tuple[bytes, ...], **more: object) -> str:
    with pytest.raises(Unproven) as refusal:
        proven(chain, **more)  # type: ignore[arg-type]
    assert str(refusal.value)
    return refusal.value.reason


def test_a_certificate_of_a_root_that_is_believed_proves_its_id_in_both_roles() -> None:
    chain = AUTHORITY.issue(WEB).chain
    assert proven(chain, by_server=True) == proven(chain, by_server=False) == WEB


def test_what_our_own_authority_issues_is_believed() -> None:
    key, leaf_key = new_key(), new_key()
    root = make_root(DOMAIN, key, time.time())
    leaf = make_leaf(Issuer(certificate=root, key=key), leaf_key.public_key(), WEB, time.time(), 3600)
    assert prove([leaf], (root,), DOMAIN, (), time.time(), by_server=True) == WEB


def test_an_authority_in_between_is_believed_when_it_is_shown() -> None:
    between = AUTHORITY._make("between", (), ca=True, issuer=AUTHORITY.root)
    under = Authority("between")
    under.root = between
    leaf = under.issue(WEB)
    assert proven((leaf.der, between.der)) == WEB
    assert why((leaf.der,)) == "untrusted"


def test_a_workload_cannot_vouch_for_another() -> None:
    """Its certificate is no authority's, whatever it has signed."""
    web = AUTHORITY._make("web", (), ca=False, issuer=AUTHORITY.root)
    under = Authority("web")
    under.root = web
    admin = under.issue(f"spiffe://{DOMAIN}/ns/kube-system/sa/admin")
    assert why((admin.der, web.der)) == "untrusted"


def below(several: int) -> Authority:
    authority = AUTHORITY
    for number in range(several):
        authority = authority.below(f"authority {number}")
    return authority


REFUSED: dict[str, tuple[Certificate, str]] = {
    "expired": (AUTHORITY.issue(WEB, begins=-2 * DAY, ends=-DAY), "expired"),
    "not yet valid": (AUTHORITY.issue(WEB, begins=DAY, ends=2 * DAY), "not_yet_valid"),
    "another root": (Authority().issue(WEB), "untrusted"),
    "another root of the same name": (Authority(AUTHORITY.name).issue(WEB), "untrusted"),
    "another trust domain": (AUTHORITY.issue("spiffe://other/ns/shop/sa/web"), "trust_domain"),
    "two ids": (AUTHORITY.issue(WEB, WEB + "2"), "not_spiffe"),
    "no id": (AUTHORITY.issue(dns=["web.shop.svc"]), "not_spiffe"),
    "no names at all": (AUTHORITY.issue(), "not_spiffe"),
    "https": (AUTHORITY.issue(f"https://{DOMAIN}/ns/shop/sa/web"), "not_spiffe"),
    "a port": (AUTHORITY.issue(f"spiffe://{DOMAIN}:8443/ns/shop/sa/web"), "not_spiffe"),
    "a user": (AUTHORITY.issue(f"spiffe://root@{DOMAIN}/ns/shop/sa/web"), "not_spiffe"),
    "a query": (AUTHORITY.issue(WEB + "?admin"), "not_spiffe"),
    "an over-long id": (AUTHORITY.issue(WEB + "x" * 2048), "not_spiffe"),
    "an authority": (AUTHORITY.issue(WEB, ca=True), "not_a_leaf"),
    "below a weak authority": (AUTHORITY.below("weak", rsa.generate_private_key(65537, 1024)).issue(WEB), "weak"),
    "a weak RSA key": (AUTHORITY.issue(WEB, key=rsa.generate_private_key(65537, 1024)), "weak"),
    "a curve that is too small": (AUTHORITY.issue(WEB, key=ec.generate_private_key(ec.SECP224R1())), "weak"),
    "in the root's name, with its key id": (AUTHORITY.impostor(WEB), "untrusted"),
    "a NUL in the id": (AUTHORITY.issue(WEB + "\0.elsewhere"), "not_spiffe"),
    "a NUL in a host name": (AUTHORITY.issue(dns=["web.shop\0.elsewhere"]), "not_spiffe"),
    "below five authorities": (below(5).issue(WEB), "untrusted"),
    "for clients alone": (AUTHORITY.issue(WEB, purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]), "not_a_leaf"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_proves_nobody_has_its_own_reason(case: str) -> None:
    certificate, reason = REFUSED[case]
    assert why(certificate.chain) == reason


def test_no_certificate_and_noise_prove_nobody() -> None:
    assert why(()) == "no_certificate"
    assert why((b"noise",)) == "not_spiffe"
    assert why((AUTHORITY.issue(WEB).der, b"noise")) == "not_spiffe"


def test_before_there_is_a_root_nobody_is_believed() -> None:
    with pytest.raises(Unproven) as refusal:
        prove(AUTHORITY.issue(WEB).chain, (), DOMAIN, (), time.time(), by_server=True)
    assert refusal.value.reason == "untrusted"


def test_the_denied_are_denied_by_id_and_by_number() -> None:
    web = AUTHORITY.issue(WEB)
    assert why(web.chain, denied=[WEB]) == "denied"
    assert why(web.chain, denied=[web.serial]) == "denied"
    assert proven(web.chain, denied=[AUTHORITY.issue(WEB).serial]) == WEB


def test_who_was_proven_can_be_denied_later_whatever_became_of_his_certificate() -> None:
    ended = AUTHORITY.issue(WEB, ends=-DAY)
    assert why(ended.chain, denied=[WEB]) == "expired", "a handshake has another reason"
    assert is_denied(WEB, ended.chain, [WEB])
    assert is_denied(WEB, ended.chain, [ended.serial])
    assert not is_denied(WEB, ended.chain, ["spiffe://cluster.local/ns/shop/sa/other"])


def test_the_clock_is_the_callers() -> None:
    chain = AUTHORITY.issue(WEB).chain
    assert why(chain, now=time.time() + 2 * 86400) == "expired"
    assert why(chain, now=time.time() - 2 * 86400) == "not_yet_valid"
