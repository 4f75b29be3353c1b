"""IP:PORT and [IPv6]:PORT as text: how HBONE, and our own processes among each other, name ends of connections."""

from __future__ import annotations

import ipaddress
import re

_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})")


def parse_address(text: str) -> tuple[str, int] | None:
    """IP in canonical form and port."""
    if (match := _ADDRESS.fullmatch(text)) is None:
        return None
    try:
        ip, port = ipaddress.ip_address(match[1] or match[2]), int(match[3])
    except ValueError:
        return None
    if bool(match[1]) != (ip.version == 6) or not 0 < port < 65536 or getattr(ip, "ipv4_mapped", None):
        return None
    return str(ip), port


def format_address(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
