"""Takes out of a text what must not leave the cluster with it: keys, tokens, passwords. Pure.

By their shape, wherever they stand, and by the names beside them. It rather takes too much: a bug report without a
harmless value can still be read.
"""

from __future__ import annotations

import re

GONE = "[removed]"
# Names have a bound, Kubernetes' own: else a long run of words would be searched to its end from each of them.
_END = r"(?:password|passwd|secret|token|api[_-]?key|private[_-]?key|credential|authorization)[\w.-]{0,253}"
_NAME = rf"[\w.-]{{0,253}}{_END}"
_PATTERNS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), GONE),
    (re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=\s]*?(?=[^A-Za-z0-9+/=\s]|\Z)"), GONE),  # PEM in base64
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), GONE),  # a JSON web token
    (re.compile(r"(?i)\b(bearer|basic) +[\w.~+/=-]{8,}"), rf"\1 {GONE}"),
    (re.compile(r"(://[^/\s:@]+):[^/\s@]+@"), rf"\1:{GONE}@"),
    # NAME=value, "name": "value", name: value; a path or a number is no secret
    (
        re.compile(rf"(?im)({_END}[\"']?\s*[:=]\s*)(\"(?:[^\"\\]|\\.)*\"|'[^']*'|[^\s,;{{}}\[\]\"'/][^\s,;}}]*)"),
        None,
    ),
    # - name: DB_PASSWORD
    #   value: ...
    (re.compile(rf"(?im)(name\"?:\s*[\"']?{_NAME}[\"']?,?\s*\"?value\"?:\s*)(\S[^\n]*)"), rf"\1{GONE}"),
)


_HARMLESS = re.compile(r"""["']?(?:true|false|null|none|[\d.]+|/[^"']*|)["']?""", re.IGNORECASE)


def scrubbed(text: str) -> str:
    for pattern, instead in _PATTERNS:
        text = pattern.sub(_beside_a_name if instead is None else instead, text)
    return text


def _beside_a_name(found: re.Match[str]) -> str:
    """Numbers, switches and paths are no secrets."""
    return found[0] if _HARMLESS.fullmatch(found[2]) else found[1] + GONE
