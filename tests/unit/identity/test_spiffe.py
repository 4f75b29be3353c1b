import pytest

from mesh.identity.spiffe import BadId, SpiffeId, check_trust_domain, parse
from mesh.model import spiffe_id

GOOD = "spiffe://cluster.local/ns/shop/sa/web"


def test_an_id_is_read_as_it_is_written():
    assert parse(GOOD) == SpiffeId(trust_domain="cluster.local", namespace="shop", service_account="web")
    assert parse(spiffe_id("a-b_c.example", "kube-system", "x.y"), "a-b_c.example").service_account == "x.y"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not begin with spiffe://"),
        ("SPIFFE://cluster.local/ns/shop/sa/web", "does not begin"),
        ("spiffe:/cluster.local/ns/shop/sa/web", "does not begin"),
        ("https://cluster.local/ns/shop/sa/web", "does not begin"),
        (" " + GOOD, "does not begin"),
        (GOOD.replace(".local/", ".local:443/"), "has a port"),
        (GOOD.replace(".local/", ".local:/"), "has a port"),
        (GOOD.replace("//c", "//me@c"), "has a user"),
        (GOOD.replace("//c", "//me:secret@c"), "has a user"),
        (GOOD.replace("cluster.local", "cluster.Local"), "small letters"),
        (GOOD.replace("cluster.local", ""), "small letters"),
        (GOOD.replace("cluster.local", "cluster%2elocal"), "small letters"),
        (GOOD.replace("cluster.local", "[::1]"), "has a port"),
        (GOOD.replace("cluster.local", "x" * 256), "at most 255"),
        (GOOD + "?a=b", "has a query"),
        (GOOD + "#a", "has a fragment"),
        (GOOD.replace("web", "w%65b"), "has an escape"),
        (GOOD + "/", "is not /ns/"),
        (GOOD + "/x", "is not /ns/"),
        ("spiffe://cluster.local", "is not /ns/"),
        ("spiffe://cluster.local/", "is not /ns/"),
        ("spiffe://cluster.local/ns/shop/web", "is not /ns/"),
        ("spiffe://cluster.local/sa/web/ns/shop", "is not /ns/"),
        ("spiffe://cluster.local//ns/shop/sa/web", "is not /ns/"),
        (GOOD.replace("shop", ""), "a name in"),
        (GOOD.replace("shop", ".."), "a name in"),
        (GOOD.replace("shop", "."), "a name in"),
        (GOOD.replace("shop", "sh op"), "a name in"),
        (GOOD.replace("shop", "shop\0"), "a name in"),
        (GOOD + "\n", "a name in"),
        (GOOD.replace("shop", "sh\N{LATIN SMALL LETTER O WITH DIAERESIS}p"), "all ASCII"),
        (GOOD + "x" * 2048, "at most 2048"),
    ],
)
def test_whatever_is_not_exactly_one_is_refused_with_its_reason(text, words):
    with pytest.raises(BadId) as caught:
        parse(text)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_an_id_of_another_trust_domain_is_refused_where_one_is_expected():
    with pytest.raises(BadId, match=r"of the trust domain cluster.local, not of example.org"):
        parse(GOOD, "example.org")


def test_the_longest_allowed_id_is_taken():
    assert parse(GOOD + "x" * (2048 - len(GOOD))).namespace == "shop"


def test_a_trust_domain_is_checked_by_itself():
    assert check_trust_domain("cluster.local") == "cluster.local"
    with pytest.raises(BadId):
        check_trust_domain("cluster.local/ns")
