"""A switch in which every frame waits: `python -m tests.kit.relay SECONDS COUNTERS TAP...`, until SIGTERM.

It makes the taps in its own network namespace and learns who is behind which, so each frame goes to one tap, and to all
others only while nobody knows better. Frames travel whole, with the kernel's note on how to cut them (virtio-net
header), so bulk costs few system calls. Frames leave in the order in which they came; the queue is bounded, and what
does not fit is dropped and counted, as a router would. COUNTERS: a JSON file, written ten times a second.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import struct
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x2, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO = 1, 2, 4, 0x60
HEADER_BYTES = 10  # struct virtio_net_hdr
FRAME_BYTES_MAX = 1 << 17
QUEUE_BYTES_MAX = 32 << 20  # 50 MB/s through a third of a second each way
FRAMES_AT_ONCE = 64  # of one tap, before the others have their turn
COUNT_S = 0.1


def tap(name: str) -> int:
    """The descriptor of a new tap, which is gone with it."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    fcntl.ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO)
    return fd


class Switch:
    """Decides where a frame goes, and when. Ports are any values; time is an argument."""

    def __init__(self, ports: Sequence[int], delay: float, room: int = QUEUE_BYTES_MAX) -> None:
        self.ports, self._delay, self._room = ports, delay, room
        self._behind: dict[bytes, int] = {}  # hardware address -> port
        self._queue: deque[tuple[float, int, bytes]] = deque()  # due, where it came from, frame
        self.passed = self.dropped = 0

    def take(self, now: float, port: int, frame: bytes) -> None:
        self._behind[frame[HEADER_BYTES + 6 : HEADER_BYTES + 12]] = port
        if len(frame) > self._room:
            self.dropped += 1
            return
        self._room -= len(frame)
        self._queue.append((now + self._delay, port, frame))

    def due(self, now: float) -> Iterable[tuple[Sequence[int], bytes]]:
        while self._queue and self._queue[0][0] <= now:
            _, source, frame = self._queue.popleft()
            self._room += len(frame)
            self.passed += 1
            known = self._behind.get(frame[HEADER_BYTES : HEADER_BYTES + 6])
            yield ([known] if known is not None else [port for port in self.ports if port != source]), frame

    def wait(self, now: float) -> float | None:
        """Seconds until something is due; None: nothing is queued."""
        return max(0.0, self._queue[0][0] - now) if self._queue else None


def read(switch: Switch, fd: int, room: bytearray) -> None:
    view = memoryview(room)
    for _ in range(FRAMES_AT_ONCE):
        try:
            length = os.readv(fd, [room])
        except BlockingIOError:
            return
        switch.take(time.monotonic(), fd, bytes(view[:length]))


def run(switch: Switch, counters: Path) -> None:
    room, counted = bytearray(FRAME_BYTES_MAX), 0.0
    while True:
        now = time.monotonic()
        for ports, frame in switch.due(now):
            for port in ports:
                os.write(port, frame)
        if now - counted > COUNT_S:
            counted = now
            fresh = counters.with_suffix(".new")
            fresh.write_text(json.dumps({"passed": switch.passed, "dropped": switch.dropped}))
            fresh.replace(counters)
        wait = switch.wait(time.monotonic())
        for fd in select.select(switch.ports, [], [], COUNT_S if wait is None else min(wait, COUNT_S))[0]:
            read(switch, fd, room)


if __name__ == "__main__":
    run(Switch([tap(name) for name in sys.argv[3:]], float(sys.argv[1])), Path(sys.argv[2]))
