"""Messages near the border between good and bad: valid ones with a few bytes or lines changed; one seed, one list."""

from __future__ import annotations

import random

from tests.engine.http1.judge import Message

REQUEST_LINES = (
    "GET / HTTP/1.1", "POST /a?b=c HTTP/1.1", "HEAD /x HTTP/1.0", "OPTIONS * HTTP/1.1", "PUT http://a/b HTTP/1.1",
    "DELETE http://a:80?c HTTP/1.1", "CONNECT a:443 HTTP/1.1",
)  # fmt: skip
STATUS_LINES = (
    "HTTP/1.1 200 OK",
    "HTTP/1.1 204 No Content",
    "HTTP/1.0 404 Not Found",
    "HTTP/1.1 304",
    "HTTP/1.1 100 x",
)
FIELDS = (
    "Host: a", "Content-Length: 5", "Content-Length: 12", "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked", "Connection: close", "Connection: keep-alive, x-a", "Connection: upgrade",
    "Upgrade: websocket", "X-A: b", "Expect: 100-continue", "TE: trailers", "Accept: */*", "Keep-Alive: timeout=5",
    "User-Agent: a (b; c) d/1", "Cookie: e=f",
)  # fmt: skip
CHUNKS = ("5\r\nhello\r\n", "a;b=c\r\n0123456789\r\n", '1;d="e"\r\n\n\r\n')
TRAILERS = ("X: y\r\n", "Z:\r\n", "Content-Length: 1\r\n")
BYTES: tuple[str, ...] = (
    *"\r\n\t\0 :;,=\"\\/-_+.*#?@[]aA0159xF\x0b\x7f\x80\xa0\xff",
    "\r\n", "\r\n ", "chunked", "HTTP/1.1", "0x", "http://",
)  # fmt: skip


def valid(part: str, chance: random.Random) -> str:
    if part == "chunked":
        trailers = chance.choices(TRAILERS, weights=(3, 3, 1), k=chance.choice((0, 0, 1, 2)))
        return "".join([*chance.choices(CHUNKS, k=chance.randrange(4)), "0\r\n", *trailers, "\r\n"])
    line = chance.choice(REQUEST_LINES if part == "request" else STATUS_LINES)
    fields = chance.sample(FIELDS, chance.randrange(5))
    if part == "request" and "Host: a" not in fields and chance.random() < 0.9:
        fields.append("Host: a:443" if line.startswith("CONNECT") else "Host: a")
    return "\r\n".join([line, *fields, "", ""])


def mutated(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    match chance.randrange(6):
        case 0:
            return text[:at] + text[at + 1 :]
        case 1:
            return text[:at] + chance.choice(BYTES) + text[at + 1 :]
        case 2:
            return text[:at] + text[at : at + 1].encode("latin-1").swapcase().decode("latin-1") + text[at + 1 :]
        case 3:
            lines = text.split("\r\n")
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
            return "\r\n".join(lines)
        case _:
            return text[:at] + chance.choice(BYTES) + text[at:]


def mutants(part: str, count: int, seed: int) -> list[Message]:
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        text = valid(part, chance)
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
            text = mutated(text, chance)
        made.append(Message(part, text.encode("latin-1")))
    return made
