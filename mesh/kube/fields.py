"""Single fields that objects of several kinds have: what they may say."""

from __future__ import annotations

import ipaddress
import re

from mesh.config import CANARY_ADDRESSES
from mesh.kube.documents import Path, shown
from mesh.kube.settings import BadField

PRIVATE = re.compile(
    r"(?:10|172|192)(?:\.(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}"
)  # canonical, and nothing special among it
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def address(text: str, path: Path) -> str:
    """Canonical text of an address that a pod, Service or Node can have; raises BadField."""
    if PRIVATE.fullmatch(text):  # 0.5 us instead of 8, and an EndpointSlice has up to 1000
        return text
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        raise BadField(path, f"{shown(text)} is not an IP address") from None
    mapped = isinstance(parsed, ipaddress.IPv6Address) and (
        parsed.ipv4_mapped is not None or parsed.scope_id is not None
    )
    if mapped or parsed.is_unspecified or parsed.is_loopback or parsed.is_multicast or parsed.is_link_local:
        raise BadField(path, f"{text} cannot be the address of a pod, Service or Node")
    if str(parsed) in CANARY_ADDRESSES:
        raise BadField(path, f"{text} is kept for the mesh's own probe")
    return str(parsed)
