"""What TCP said in captured frames: who spoke to whom, and the bytes of each direction put together.

For proofs about a wire on which nothing was lost: a gap is an error, not a guess. Ethernet with IPv4 (no fragments) or
IPv6 (no extension headers), which is all that a lab's nodes send. Source: RFC 9293, RFC 8446 section 4.1.2.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ETHERNET_BYTES, IPV4, IPV6, TCP = 14, 0x0800, 0x86DD, 6
SYN = 0x02
HANDSHAKE_RECORD, CLIENT_HELLO = 22, 1
SERVER_NAME, ALPN, SUPPORTED_VERSIONS = 0, 16, 43  # extensions


@dataclass(frozen=True)
class Way:
    """One direction of a connection."""

    source: str
    source_port: int
    destination: str
    destination_port: int


@dataclass(frozen=True)
class Segment:
    way: Way
    sequence: int
    syn: bool
    payload: bytes


def segments(frames: Iterable[bytes]) -> Iterator[Segment]:
    for frame in frames:
        (kind,) = struct.unpack_from("!H", frame, 12)
        packet = frame[ETHERNET_BYTES:]
        if kind == IPV4 and packet[9] == TCP:
            head, end = (packet[0] & 15) * 4, struct.unpack_from("!H", packet, 2)[0]
            source, destination = packet[12:16], packet[16:20]
        elif kind == IPV6 and packet[6] == TCP:
            head, end = 40, 40 + struct.unpack_from("!H", packet, 4)[0]
            source, destination = packet[8:24], packet[24:40]
        else:
            continue
        source_port, destination_port, sequence = struct.unpack_from("!HHI", packet, head)
        way = Way(_text(source), source_port, _text(destination), destination_port)
        payload = packet[head + (packet[head + 12] >> 4) * 4 : end]
        yield Segment(way, sequence, bool(packet[head + 13] & SYN), payload)


def streams(frames: Iterable[bytes]) -> dict[Way, bytes]:
    """The bytes of every direction whose beginning was captured; repeated segments count once."""
    found: dict[Way, dict[int, bytes]] = defaultdict(dict)
    begins: dict[Way, int] = {}
    for each in segments(frames):
        if each.syn:
            begins[each.way] = each.sequence + 1
        elif each.way in begins and each.payload:
            found[each.way][(each.sequence - begins[each.way]) % 2**32] = each.payload
    return {way: _joined(way, pieces) for way, pieces in found.items()}


def _joined(way: Way, pieces: dict[int, bytes]) -> bytes:
    whole = b""
    for offset, payload in sorted(pieces.items()):
        if offset > len(whole):
            raise ValueError(f"{way}: bytes {len(whole)} to {offset} are missing in the capture")
        whole += payload[len(whole) - offset :]
    return whole


def client_hello(stream: bytes) -> dict[int, bytes]:
    """The extensions with which a TLS client begins: type -> content."""
    if stream[0] != HANDSHAKE_RECORD:
        raise ValueError(f"this is no TLS client: {stream[:16]!r}")
    return extensions(stream[5:])


def extensions(hello: bytes) -> dict[int, bytes]:
    """Of a ClientHello without a record around it, as QUIC carries it."""
    if hello[0] != CLIENT_HELLO:
        raise ValueError(f"this is no ClientHello: {hello[:16]!r}")
    at = 4 + 2 + 32  # handshake header, version, random
    at += 1 + hello[at]  # session id
    at += 2 + struct.unpack_from("!H", hello, at)[0]  # suites
    at += 1 + hello[at]  # compression
    end = at + 2 + struct.unpack_from("!H", hello, at)[0]
    at += 2
    found = {}
    while at < end:
        kind, length = struct.unpack_from("!HH", hello, at)
        found[kind] = hello[at + 4 : at + 4 + length]
        at += 4 + length
    return found


def _text(address: bytes) -> str:
    return str(ipaddress.ip_address(address))
