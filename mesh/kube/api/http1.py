"""The response to one request: bytes in, pieces of the body out (RFC 9112). Pure.

For the API server and what stands before it: identity coding only (we ask for no other), no upgrades. Whatever is not
understood ends the connection with a sentence; nothing is guessed. Interim responses (1xx) are skipped.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from enum import Enum, auto

HEAD_BYTES_MAX = 64 << 10  # the API server's audit and flow-control headers have some hundred
CHUNK_LINE_MAX = 256  # a size with extensions that nobody uses
DATE = "%a, %d %b %Y %H:%M:%S GMT"  # RFC 9110, 5.6.7


class BadResponse(ValueError):
    """A sentence: what the server sent is no HTTP/1.1 response to our request."""


class _Expect(Enum):
    HEAD = auto()
    COUNTED = auto()  # Content-Length
    CHUNK_SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    END = auto()  # of the connection
    NOTHING = auto()


class Response:
    """Fed until `complete`. `status` is 0 until the head has come."""

    def __init__(self) -> None:
        self.status = 0
        self.reason = ""
        self.headers: dict[str, str] = {}
        self.reusable = True  # the connection, once this is complete
        self._expect = _Expect.HEAD
        self._left = 0
        self._buffer = bytearray()

    @property
    def complete(self) -> bool:
        return self._expect is _Expect.NOTHING

    @property
    def date(self) -> float | None:
        """By the server's clock, seconds since 1970; None where it does not say."""
        with contextlib.suppress(ValueError):
            return datetime.strptime(self.headers.get("date", ""), DATE).replace(tzinfo=UTC).timestamp()
        return None

    def feed(self, data: bytes) -> list[bytes]:
        """What of the body is in it. Raises BadResponse."""
        self._buffer += data
        pieces: list[bytes] = []
        while self._step(pieces):
            pass
        if self.complete and self._buffer:
            raise BadResponse(f"{len(self._buffer)} bytes after the end of the response")
        return pieces

    def end(self) -> None:
        """The server closed the connection. Raises BadResponse where that cuts the response."""
        if self._expect is _Expect.END:
            self._expect = _Expect.NOTHING
        if not self.complete:
            raise BadResponse("the connection ended in the middle of a response")

    def _step(self, pieces: list[bytes]) -> bool:
        """Whether there may be more to do with what is in the buffer."""
        match self._expect:
            case _Expect.HEAD:
                return self._head()
            case _Expect.COUNTED | _Expect.CHUNK | _Expect.END:
                return self._body(pieces)
            case _Expect.CHUNK_SIZE:
                return self._chunk_size()
            case _Expect.CHUNK_END:
                return self._chunk_end()
            case _Expect.TRAILER:
                return self._trailer()
            case _Expect.NOTHING:
                return False

    def _line(self, most: int) -> bytes | None:
        """Without its end; None if there is none yet."""
        at = self._buffer.find(b"\r\n", 0, most + 2)
        if at < 0:
            if len(self._buffer) > most + 1:  # the last may be half of its end
                raise BadResponse(f"a line of more than {most} bytes")
            return None
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 2]
        return line

    def _head(self) -> bool:
        at = self._buffer.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if at < 0:
            if len(self._buffer) >= HEAD_BYTES_MAX:
                raise BadResponse(f"a head of more than {HEAD_BYTES_MAX} bytes")
            return False
        first, *lines = bytes(self._buffer[:at]).decode("latin-1").split("\r\n")
        del self._buffer[: at + 4]
        version, _, rest = first.partition(" ")
        code, _, self.reason = rest.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or len(code) != 3 or not code.isdigit():
            raise BadResponse(f"it begins with {first[:80]!r}, which is not HTTP/1.1")
        self.headers = dict(self._header(line) for line in lines)
        if code.startswith("1"):
            return True
        self.status = int(code)
        self.reusable = version == "HTTP/1.1" and self.headers.get("connection", "").lower() != "close"
        self._expect = self._framing()
        return True

    def _header(self, line: str) -> tuple[str, str]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadResponse(f"the header line {line[:80]!r}")
        return name.lower(), value.strip()

    def _framing(self) -> _Expect:
        if self.status in (204, 304):
            return _Expect.NOTHING
        if "transfer-encoding" in self.headers:
            if self.headers["transfer-encoding"].lower() != "chunked":
                raise BadResponse(f"the transfer coding {self.headers['transfer-encoding'][:80]!r}")
            return _Expect.CHUNK_SIZE
        if "content-length" not in self.headers:
            self.reusable = False
            return _Expect.END
        length = self.headers["content-length"]
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            raise BadResponse(f"the content length {length[:80]!r}")
        self._left = int(length)
        return _Expect.COUNTED if self._left else _Expect.NOTHING

    def _body(self, pieces: list[bytes]) -> bool:
        if not self._buffer:
            return False
        if self._expect is _Expect.END:
            pieces.append(bytes(self._buffer))
            self._buffer.clear()
            return False
        piece = bytes(self._buffer[: self._left])
        del self._buffer[: len(piece)]
        pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._expect = _Expect.CHUNK_END if self._expect is _Expect.CHUNK else _Expect.NOTHING
        return True

    def _chunk_size(self) -> bool:
        line = self._line(CHUNK_LINE_MAX)
        if line is None:
            return False
        digits = line.partition(b";")[0].strip()
        if not digits or len(digits) > 8 or digits.strip(b"0123456789abcdefABCDEF"):
            raise BadResponse(f"the chunk size {line[:40]!r}")
        self._left = int(digits, 16)
        self._expect = _Expect.CHUNK if self._left else _Expect.TRAILER
        return True

    def _chunk_end(self) -> bool:
        line = self._line(0)
        if line is None:
            return False
        self._expect = _Expect.CHUNK_SIZE
        return True

    def _trailer(self) -> bool:
        line = self._line(HEAD_BYTES_MAX)
        if line == b"":
            self._expect = _Expect.NOTHING
        return bool(line)
