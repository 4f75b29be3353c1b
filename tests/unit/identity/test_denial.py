import pytest

from mesh.identity.authority import Denial
from mesh.identity.denial import active, named
from mesh.identity.spiffe import BadId

WEB = "spiffe://cluster.local/ns/shop/sa/web"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (WEB, WEB),
        ("4b1f", "4b1f"),
        ("4B:1F", "4b1f"),
        ("abc", "0abc"),
        ("000abc", "0abc"),
        ("7", "07"),
        ("0", "00"),
        ("f" * 40, "f" * 40),
    ],
)
def test_an_id_or_a_serial_number_is_named_as_engines_compare_it(text, name):
    assert named(text, "cluster.local") == name


@pytest.mark.parametrize("text", ["", "web", "0x4b", "-1", "4b 1f", "f" * 41, "spiffe://x/ns/a/sa/b", WEB + "?"])
def test_what_is_neither_is_refused(text):
    with pytest.raises(BadId):
        named(text, "cluster.local")


def test_a_denial_ends_by_itself():
    first, second = Denial(what="aa", until=100.0), Denial(what="bb", until=200.0)
    assert active((first, second), 99.0) == (first, second)
    assert active((first, second), 100.0) == (second,)
