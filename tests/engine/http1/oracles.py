"""Two other parsers and what they make of a message: llhttp (httptools), which is close to us, and h11, which is lax.

`reading` is None when the parser refuses the message. Else it says what the parser took for method, target, status and
body, given the bytes of the head followed by a body as *we* understand its framing: a parser that understands it
otherwise sees another body, or no end, or an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import h11
import httptools

from tests.engine.http1.judge import Message

CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LONGEST_BODY = 1000  # a longer one is begun, and must not end


@dataclass
class Reading:
    """`complete`: the message ended, and with the last byte given."""

    line: tuple[str, ...] = ()
    body: bytes = b""
    complete: bool = False


@dataclass
class _Callbacks:
    reading: Reading = field(default_factory=Reading)
    url: bytes = b""
    heads: int = 0
    ends: int = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_headers_complete(self) -> None:
        self.heads += 1

    def on_body(self, body: bytes) -> None:
        self.reading.body += body

    def on_message_complete(self) -> None:
        self.ends += 1


def body_for(framing: str, content_length: int) -> bytes:
    if framing == "chunked":
        return b"3\r\nabc\r\n0\r\n\r\n"
    return b"x" * min(content_length, LONGEST_BODY) if framing == "length" else b""


def llhttp(message: Message, body: bytes = b"") -> Reading | None:
    calls = _Callbacks()
    parser = httptools.HttpResponseParser(calls) if message.part == "response" else httptools.HttpRequestParser(calls)
    data = CHUNKED_HEAD + message.data if message.part == "chunked" else message.data
    try:
        parser.feed_data(data)
        if body and calls.ends == 0:
            parser.feed_data(body)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return None
    if calls.heads != 1 or calls.ends > 1:
        return None
    calls.reading.complete = calls.ends == 1
    if isinstance(parser, httptools.HttpResponseParser):
        calls.reading.line = (str(parser.get_status_code()),)
    else:
        calls.reading.line = (parser.get_method().decode(), calls.url.decode("latin-1"))
    return calls.reading


def _h11_connection(message: Message) -> h11.Connection:
    if message.part != "response":
        return h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    method = "GET" if message.method == "other" else message.method.upper()
    headers = [("Host", "a"), *([("Connection", "upgrade"), ("Upgrade", "x")] if message.upgrade else [])]
    connection.send(h11.Request(method=method, target="/" if method != "CONNECT" else "a:1", headers=headers))
    connection.send(h11.EndOfMessage())
    return connection


def h11_reads(message: Message, body: bytes = b"") -> Reading | None:
    connection = _h11_connection(message)
    data = CHUNKED_HEAD + message.data if message.part == "chunked" else message.data
    reading = Reading()
    connection.receive_data(data + body)
    try:
        while (event := connection.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
            if isinstance(event, h11.Request):
                reading.line = (event.method.decode(), event.target.decode("latin-1"))
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                reading.line = (str(event.status_code),)
            elif isinstance(event, h11.Data):
                reading.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                reading.complete = True
    except h11.RemoteProtocolError:
        return None
    return reading if reading.line else None


ORACLES: dict[str, Callable[[Message, bytes], Reading | None]] = {"llhttp": llhttp, "h11": h11_reads}
