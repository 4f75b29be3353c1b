"""CONNECT as HBONE means it: what a request says, and what is refused with which status."""

import pytest

from mesh.forward.quic.connect import BadRequest, answer_fields, judge, read_status, request_fields
from mesh.forward.quic.http3 import Fields
from mesh.forward.quic.messages import Opening

A, B, C = (f"spiffe://cluster.local/ns/default/sa/{name}" for name in "abc")
HERE = {"10.2.0.1": B, "fd00::1": B, "10.2.0.2": C}
NODE = "192.0.2.1:15008"


def fields(authority: str = "10.2.0.1:80", method: str = "CONNECT", *more: tuple[str, str]) -> Fields:
    pairs = ((":method", method), (":authority", authority), *more)
    return [(name.encode(), value.encode()) for name, value in pairs]


@pytest.mark.parametrize("destination", ["10.2.0.1:80", "[fd00::1]:65535"])
def test_what_one_side_asks_the_other_understands(destination: str) -> None:
    asked = Opening(source=A, target=B, destination=destination, client="10.1.0.9:40001", node="")
    assert judge(request_fields(asked), A, B, NODE, HERE) == Opening(
        source=A, target=B, destination=destination, client="10.1.0.9:40001", node=NODE
    )


def test_who_calls_is_who_the_tunnel_has_proven_whatever_the_request_says() -> None:
    more = (("x-forwarded-client-cert", C), ("forwarded", 'for="10.1.0.9:1";by=' + C))
    assert judge(fields("10.2.0.1:80", "CONNECT", *more), A, B, NODE, HERE).source == A


@pytest.mark.parametrize("forwarded", ["", "for=10.1.0.9", 'for="unknown"', 'for="10.1.0.9:0"', 'for="[::1]"', "\xff"])
def test_a_client_that_cannot_be_read_is_none(forwarded: str) -> None:
    assert judge(fields("10.2.0.1:80", "CONNECT", ("forwarded", forwarded)), A, B, NODE, HERE).client == ""


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (fields(method="GET"), 400, "not_connect"),
        (fields()[:1], 400, "not_connect"),
        (fields()[1:], 400, "not_connect"),
        ([], 400, "not_connect"),
        ([*fields(), (b":path", b"/")], 400, "not_connect"),
        ([*fields(), (b":protocol", b"websocket")], 400, "not_connect"),
        ([*fields(), fields()[1]], 400, "not_connect"),
        (fields("10.2.0.2:80"), 400, "not_who"),
        (fields("10.2.0.3:80"), 503, "nobody"),
        (fields("web.default:80"), 400, "authority"),
        (fields("10.2.0.1"), 400, "authority"),
        (fields("10.2.0.1:0"), 400, "authority"),
        (fields("10.2.0.1:65536"), 400, "authority"),
        (fields("10.2.0.1:080000"), 400, "authority"),
        (fields("10.2.0.01:80"), 400, "authority"),
        (fields("user@10.2.0.1:80"), 400, "authority"),
        (fields("[10.2.0.1]:80"), 400, "authority"),
        (fields("fd00::1:80"), 400, "authority"),
        (fields("[fd00::1%eth0]:80"), 400, "authority"),
        (fields("10.2.0.1:15006"), 400, "authority"),
        (fields("10.2.0.1:15008"), 400, "authority"),
    ],
)
def test_what_is_refused(request_: Fields, status: int, reason: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        judge(request_, A, B, NODE, HERE)
    assert (refusal.value.status, refusal.value.reason) == (status, reason)


@pytest.mark.parametrize(("answer", "status"), [(answer_fields(200), 200), ([], 0), ([(b":status", b"2x0")], 0)])
def test_status(answer: Fields, status: int) -> None:
    assert read_status(answer) == status
