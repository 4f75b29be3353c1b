"""The UDP socket: many datagrams per system call where the kernel can (UDP_SEGMENT, UDP_GRO; udp(7)).

Sending never waits: what the socket does not take is kept for a moment, up to a limit, and then dropped and counted, as
any router would. The socket is made by the agent (`open_socket`), whose privilege gives it large buffers.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from mesh.forward.quic.datagrams import Batch, batches, split

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104  # linux/udp.h
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32  # asm-generic/socket.h; Python has no names
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_PROBE = 10, 23, 3  # linux/in.h: never fragment, never believe ICMP
BUFFER_BYTES = 8 << 20  # 80 ms at 100 MB/s, more than a Python loop carries
RECEIVES_MAX = 32  # of up to 64 KiB each, before others have their turn
WAITING_BYTES_MAX = 1 << 20

Address = tuple[Any, ...]


def open_socket(port: int) -> socket.socket:
    """Of both families where the machine has both. Raises OSError: the port is taken."""
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
    except OSError:  # IPv6 is switched off
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        for force, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
            except PermissionError:
                sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)
        sock.bind(("::" if sock.family == socket.AF_INET6 else "0.0.0.0", port))
    except OSError:
        sock.close()
        raise
    return sock


class Wire:
    """`receive` gets what came, in batches; it is called by the loop."""

    def __init__(self, sock: socket.socket, counts: Counter[str]) -> None:
        sock.setblocking(False)
        self.sock, self._counts = sock, counts
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[Batch, Address]] = deque()
        self._waiting_bytes = 0
        self._joins = self._can(UDP_GRO)
        self._segments = self._can(UDP_SEGMENT)

    def _can(self, option: int) -> bool:
        """GRO stays on; a socket's own segment size stays 0, since each message brings its own."""
        try:
            self.sock.setsockopt(SOL_UDP, option, 1 if option == UDP_GRO else 0)
        except OSError:
            return False
        return True

    @property
    def features(self) -> str:
        return ", ".join(name for name, has in (("GSO", self._segments), ("GRO", self._joins)) if has) or "none"

    def listen(self, receive: Callable[[Sequence[tuple[Sequence[bytes], Address]]], None]) -> None:
        self._loop.add_reader(self.sock.fileno(), self._readable, receive)

    def _readable(self, receive: Callable[[Sequence[tuple[Sequence[bytes], Address]]], None]) -> None:
        came: list[tuple[Sequence[bytes], Address]] = []
        for _ in range(RECEIVES_MAX):
            try:
                data, ancillary, flags, address = self.sock.recvmsg(65535, 64)
            except BlockingIOError:
                break
            except OSError as error:  # an ICMP error that was for an earlier datagram
                self._counts[f"datagrams_unsent/{errno.errorcode.get(error.errno or 0, 'unknown')}"] += 1
                continue
            if flags & socket.MSG_TRUNC:
                continue
            segment = struct.unpack("i", ancillary[0][2][:4])[0] if ancillary else 0
            parts = split(data, segment)
            self._counts["datagrams/received"] += len(parts)
            came.append((parts, address))
        if came:
            receive(came)

    def send(self, datagrams: Sequence[bytes], address: Address) -> None:
        """All to one address, in order."""
        if len(datagrams) == 1 or not self._segments:
            for each in datagrams:
                self._send(Batch(each, 0, 1), address)
        else:
            for batch in batches(datagrams):
                self._send(batch, address)

    def _send(self, batch: Batch, address: Address) -> None:
        if self._waiting:
            self._wait(batch, address)
            return
        try:
            self._pass(batch, address)
        except BlockingIOError:
            self._loop.add_writer(self.sock.fileno(), self._writable)
            self._wait(batch, address)
        except OSError as error:
            self._failed(error, batch, address)

    def _pass(self, batch: Batch, address: Address) -> None:
        if batch.segment:
            self.sock.sendmsg([batch.data], [(SOL_UDP, UDP_SEGMENT, struct.pack("H", batch.segment))], 0, address)
        else:
            self.sock.sendto(batch.data, address)
        self._counts["datagrams/sent"] += batch.datagrams

    def _failed(self, error: OSError, batch: Batch, address: Address) -> None:
        if batch.segment and error.errno in (errno.EIO, errno.EINVAL, errno.EOPNOTSUPP):
            self._segments = False  # a device on the way that cannot: one by one from now on
            self.send(split(batch.data, batch.segment), address)
        else:
            self._counts[f"datagrams_unsent/{errno.errorcode.get(error.errno or 0, 'unknown')}"] += batch.datagrams

    def _wait(self, batch: Batch, address: Address) -> None:
        if self._waiting_bytes + len(batch.data) > WAITING_BYTES_MAX:
            self._counts["datagrams_unsent/full"] += batch.datagrams
            return
        self._waiting.append((batch, address))
        self._waiting_bytes += len(batch.data)

    def _writable(self) -> None:
        while self._waiting:
            batch, address = self._waiting[0]
            try:
                self._pass(batch, address)
            except BlockingIOError:
                return
            except OSError as error:
                self._counts[f"datagrams_unsent/{errno.errorcode.get(error.errno or 0, 'unknown')}"] += batch.datagrams
            self._waiting.popleft()
            self._waiting_bytes -= len(batch.data)
        self._loop.remove_writer(self.sock.fileno())

    def close(self) -> None:
        self._loop.remove_reader(self.sock.fileno())
        self._loop.remove_writer(self.sock.fileno())
        self.sock.close()
