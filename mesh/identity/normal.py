"""The one spelling of a request's path that rules are compared with, and that is forwarded where rules look at paths.

RFC 3986 6.2.2 (escapes in capitals, dot segments resolved), and slashes merged. No escapes for what may stand for
itself in a segment (3.3, pchar), further than 6.2.2.2: nginx, Go and WSGI look for the bytes that are meant, and to
them "/a%3Ab" is "/a:b". What servers read in several ways has no such form and is refused: an escaped slash, backslash,
semicolon or NUL, an escape that is none, a character that must be escaped and is not, a dot segment with parameters
("..;"), ".." beside merged slashes. cext/normal.c does the same; a test compares the two. Parameters (";") and a slash
at the end are part of the path and not looked into.
"""

from __future__ import annotations

import re
from functools import reduce

_ESCAPE = re.compile(r"%(.{0,2})", re.DOTALL)
_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@-]")
_OTHER = re.compile(r"[^A-Za-z0-9._~!$&'()*+,=:@/;%-]")


class Ambiguous(ValueError):
    """The path could be read in two ways."""


def _unescape(found: re.Match[str]) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{2}", found[1]):
        raise Ambiguous(f"{found[0]} is no escape")
    character = chr(int(found[1], 16))
    if character in "\0/\\;":
        raise Ambiguous(f"{found[0]} in a path means different things to different servers")
    return character if _LITERAL.fullmatch(character) else found[0].upper()


def _step(so_far: list[str], segment: str) -> list[str]:
    return so_far[:-1] if segment == ".." else [*so_far, *([segment] if segment not in ("", ".") else [])]


def normal_path(path: str) -> str:
    """`path` begins with "/" and has no query. Raises Ambiguous."""
    if found := _OTHER.search(path):
        raise Ambiguous(f"{found[0]!r} must be escaped in a path")
    plain = _ESCAPE.sub(_unescape, path)
    segments = plain.split("/")[1:]
    if any(re.match(r"\.\.?;", segment) for segment in segments):
        raise Ambiguous("a dot segment with parameters")
    if ".." in segments and "" in segments[:-1]:
        raise Ambiguous('".." beside an empty segment')
    kept: list[str] = reduce(_step, segments, [])
    slash = "/" if kept and segments[-1] in ("", ".", "..") else ""
    return "/" + "/".join(kept) + slash


def normal_host(host: str) -> str:
    """Of a Host field or an authority: small letters, without port and final dot. Raises Ambiguous."""
    if "%" in host:
        raise Ambiguous("an escape in a host")
    return re.sub(r":[0-9]*$", "", host.lower()).removesuffix(".")
