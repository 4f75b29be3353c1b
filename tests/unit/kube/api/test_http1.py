"""Responses of an API server, and of what is none, fed in every way."""

from __future__ import annotations

import random

import pytest

from mesh.kube.api.http1 import BadResponse, Response

GOOD = {
    "counted": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello", True),
    "empty": (b"HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", b"", True),
    "nothing": (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
    "closing": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
        b"abc0123456789",
        True,
    ),
}
BAD = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "version": b"HTTP/2 200 OK\r\n\r\n",
    "status": b"HTTP/1.1 20x OK\r\n\r\n",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
    "coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "header": b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
    "chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "chunk size of 16 digits": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1234567890123456\r\n",
    "chunk longer than it says": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    "chunk line without end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 300,
    "head without end": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    "more than it says": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK",
}


def fed(pieces: list[bytes]) -> tuple[Response, bytes]:
    response = Response()
    return response, b"".join(part for piece in pieces for part in response.feed(piece))


def splits(text: bytes) -> list[list[bytes]]:
    """Whole, byte by byte, and at random."""
    chance = random.Random(7)
    at = sorted(chance.sample(range(1, len(text)), min(5, len(text) - 1)))
    return [
        [text],
        [text[i : i + 1] for i in range(len(text))],
        [text[start:end] for start, end in zip([0, *at], [*at, None], strict=True)],
    ]


@pytest.mark.parametrize("case", GOOD)
def test_a_response_is_read_however_it_comes(case):
    text, body, reusable = GOOD[case]
    for pieces in splits(text):
        response, found = fed(pieces)
        assert (response.complete, found, response.reusable) == (True, body, reusable)


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_response_is_refused(case):
    with pytest.raises(BadResponse):
        fed([BAD[case]])


def test_a_body_without_a_length_ends_with_the_connection():
    response, found = fed([b"HTTP/1.1 200 OK\r\n\r\nab", b"c"])
    assert (found, response.complete, response.reusable) == (b"abc", False, False)
    response.end()
    assert response.complete


@pytest.mark.parametrize("length", range(1, len(GOOD["chunked"][0])))
def test_a_cut_response_is_never_taken_for_a_whole_one(length):
    response, _ = fed([GOOD["chunked"][0][:length]])
    with pytest.raises(BadResponse):
        response.end()
