"""Lists of values become ranges of arrays, without a value lost or mixed up. That C reads them so: tests/engine."""

from mesh.forward.authz import Arrays, block
from mesh.model import Authorization
from tests.kit.builders import policy, rule


def test_every_value_is_where_its_range_says():
    first = policy("a", "DENY", rule(principals=["x*", "yy"], ports=[1, 2]), rule(not_ports=[3]))
    second = policy("b", "AUDIT", rule(paths=["*z"], ip_blocks=["10.0.0.0/8"]), dry_run=True)
    arrays = Arrays(Authorization(policies=(first, second), default_deny=True))
    found = arrays.content
    assert arrays.default_deny == 1
    assert [(id, action, dry) for id, _, action, dry in found["policies"]] == [(first.id, 0, 0), (second.id, 2, 1)]
    assert [rules for _, rules, _, _ in found["policies"]] == [(0, 2), (2, 1)]
    assert found["rules"] == [((0, 1), (0, 1)), ((1, 0), (1, 1)), ((1, 1), (2, 1))]
    assert found["sources"][0][0] == (0, 2)
    assert [bytes(found["bytes"][at : at + length]) for at, length, _ in found["texts"]] == [b"x", b"yy", b"z"]
    assert [how for _, _, how in found["texts"]] == [1, 0, 2]
    assert found["ports"] == [1, 2, 3]
    assert [each[-2:] for each in found["operations"]] == [((0, 2), (2, 0)), ((2, 0), (2, 1)), ((3, 0), (3, 0))]
    assert found["blocks"] == [block("10.0.0.0/8")]


def test_a_block_is_sixteen_bytes_and_how_many_bits_count():
    assert block("10.1.0.0/16") == (bytes(10) + b"\xff\xff\x0a\x01\x00\x00", 112)
    assert block("fd00::/8") == (b"\xfd" + bytes(15), 8)
