"""Who is denied: how it is written, and whether it still counts. Pure.

A denial ends by itself: it only has to last as long as the certificates that it is about, after which the authority,
which signs nothing for a denied id, has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mesh.identity.authority import Denial
from mesh.identity.spiffe import BadId, parse

_SERIAL = re.compile(r"[0-9a-f]{1,40}")  # 20 bytes are the most (RFC 5280 4.1.2.2)


def named(text: str, trust_domain: str) -> str:
    """An id, or a serial number as engines compare it, whatever case and colons it was copied with. Raises BadId."""
    if text.startswith("spiffe:"):
        parse(text, trust_domain)
        return text
    digits = text.replace(":", "").lower()
    if not _SERIAL.fullmatch(digits):
        raise BadId(f"{text[:100]!r} is neither a SPIFFE id nor a serial number of at most 20 bytes in hexadecimal")
    return digits.lstrip("0").zfill(len(digits.lstrip("0")) + 1 & ~1) or "00"


def active(denials: Iterable[Denial], now: float) -> tuple[Denial, ...]:
    return tuple(denial for denial in denials if denial.until > now)
