"""Messages as they come over the wire, whole, in bytes and cut short."""

import asyncio

import pytest

from mesh.identity import wire
from mesh.identity.wire import Answer, Ask, BadMessage

GOOD = wire.head("POST /v1/sign HTTP/1.1", b"{}", "Authorization: Bearer x") + b"{}"


def read(data, whole=True):
    async def scenario():
        reader = asyncio.StreamReader(limit=wire.HEAD_BYTES_MAX)
        for at in range(len(data)) if not whole else ():
            reader.feed_data(data[at : at + 1])
        if whole:
            reader.feed_data(data)
        reader.feed_eof()
        return await wire.read(reader)

    return asyncio.run(scenario())


@pytest.mark.parametrize("whole", [True, False])
def test_what_is_written_is_read(whole):
    first, fields, body = read(GOOD, whole)
    assert (first, body, fields["authorization"]) == ("POST /v1/sign HTTP/1.1", b"{}", "Bearer x")


@pytest.mark.parametrize("cut", range(0, len(GOOD), 7))
def test_a_message_that_is_cut_short_is_none(cut):
    with pytest.raises(BadMessage, match="ended within"):
        read(GOOD[:cut])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", "no Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "no Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n", "no Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: 9999999999\r\n\r\n", "no Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", "no Content-Length"),
        (b"POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n", "more than 1048576 bytes"),
        (b"POST / HTTP/1.1\r\nX: " + b"x" * wire.HEAD_BYTES_MAX + b"\r\n\r\n", "the head has more than"),
        (b"x" * 2 * wire.HEAD_BYTES_MAX, "the head has more than"),
        (b"POST /\xff HTTP/1.1\r\n\r\n", "not ASCII"),
    ],
)
def test_what_is_no_message_of_ours_is_refused(data, words):
    with pytest.raises(BadMessage, match=words):
        read(data)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"node": 1}', b'{"node": "a", "request": "!"}', b"\xff"])
def test_a_body_of_another_kind_is_refused(body):
    with pytest.raises(BadMessage, match="the body is no Ask"):
        wire.decode(body, Ask)


def test_what_neither_side_knows_yet_is_passed_over():
    """A newer authority may say more."""
    assert wire.decode(b'{"now": 1.5, "mood": "good"}', Answer) == Answer(now=1.5)
