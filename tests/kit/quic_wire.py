"""What somebody who only listens can read of QUIC: first packets are encrypted with keys that everybody can derive.

Source: RFC 9001 section 5.2. aioquic derives the keys; frames are taken apart here. Ethernet with IPv4 without options.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aioquic._buffer import Buffer
from aioquic._crypto import CryptoError
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicPacketType, QuicProtocolVersion, pull_quic_header

from tests.kit.streams import extensions

IPV4, UDP = 0x0800, 17
PADDING, PING, CRYPTO = 0, 1, 6


class Datagram(NamedTuple):
    source_port: int
    destination_port: int
    payload: bytes


def datagrams(frames: Iterable[bytes]) -> Iterator[Datagram]:
    for frame in frames:
        if struct.unpack_from("!H", frame, 12)[0] == IPV4 and frame[23] == UDP:
            source, destination, length = struct.unpack_from("!HHH", frame, 34)
            yield Datagram(source, destination, frame[42 : 34 + length])


def client_hellos(frames: Iterable[bytes]) -> list[dict[int, bytes]]:
    """The extensions of every ClientHello that came in one datagram."""
    heard = (_hello(each.payload) for each in datagrams(frames) if len(each.payload) >= 1200)
    return [extensions(hello) for hello in heard if hello]


def _hello(data: bytes) -> bytes:
    """Empty: it is none that begins a connection."""
    buffer = Buffer(data=data)
    header = pull_quic_header(buffer, host_cid_length=8)
    if header.packet_type != QuicPacketType.INITIAL:
        return b""
    keys = CryptoPair()
    keys.setup_initial(cid=header.destination_cid, is_client=False, version=QuicProtocolVersion.VERSION_1)
    try:
        _, plain, _ = keys.decrypt_packet(data[: header.packet_length], buffer.tell(), 0)
    except CryptoError:  # a server's, or a later one: their keys hang from an earlier packet's id
        return b""
    return _crypto(plain)


def _crypto(plain: bytes) -> bytes:
    frames, found = Buffer(data=plain), b""
    while not frames.eof():
        kind = frames.pull_uint_var()
        if kind == CRYPTO:
            assert frames.pull_uint_var() == len(found), "in order, as we send it"
            found += frames.pull_bytes(frames.pull_uint_var())
        elif kind not in (PADDING, PING):
            raise ValueError(f"frame {kind} in a first packet")
    return found
