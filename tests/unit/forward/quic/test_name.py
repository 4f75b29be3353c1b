"""What is seen of a server name on the wire says nothing to who has no root, and all to the node that is meant."""

import itertools

import pytest

from mesh.forward.quic.name import SALT_BYTES, meant_by, opaque_name

ROOT, OTHER_ROOT = b"a root's DER", b"another root's DER"
WEB, DB = "spiffe://cluster.local/ns/shop/sa/web", "spiffe://cluster.local/ns/shop/sa/db"


def salt(number: int) -> bytes:
    return bytes([number]) * SALT_BYTES


def test_the_node_that_has_the_identity_understands_the_name() -> None:
    name = opaque_name(WEB, ROOT, salt(1))
    assert meant_by(name, [OTHER_ROOT, ROOT], [DB, WEB]) == WEB


def test_a_node_without_the_identity_or_the_root_does_not() -> None:
    name = opaque_name(WEB, ROOT, salt(1))
    assert meant_by(name, [ROOT], [DB]) == ""
    assert meant_by(name, [OTHER_ROOT], [WEB]) == ""
    assert meant_by(name, [], []) == ""


def test_it_is_a_label_of_one_length_without_a_trace_of_what_it_means() -> None:
    names = {opaque_name(who, ROOT, salt(n)) for who, n in itertools.product((WEB, DB, WEB * 3), range(8))}
    assert len(names) == 24
    for name in names:
        assert len(name) == 42
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz234567")


@pytest.mark.parametrize("name", ["", "web.shop.svc", "a" * 41, "a" * 42, "a" * 43, "!" * 42, "ä" * 42, "1" * 42])
def test_what_is_no_name_of_ours_means_nobody(name: str) -> None:
    assert meant_by(name, [ROOT], [WEB]) == ""
