"""A load client for pods, run as a script until SIGTERM: `load.py ADDRESS PORT KEPT FRESH_PER_S OUT`, to a talk server.

KEPT connections stay open and exchange a line every 10 ms until they break (a broken one is not opened again);
beside them FRESH_PER_S new connections a second each exchange one line. Every step has a deadline. At the end OUT is
JSON: {"kept": [{requests, error, at}], "fresh": [{at, took, error, server}]}, times by CLOCK_MONOTONIC, the lab's own.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

DEADLINE_S = 5.0  # an exchange that takes longer counts as hanging; replacing all hung workers takes about two
PAUSE_S = 0.01

stop = threading.Event()


def reason(failure: OSError) -> str:
    """ECONNREFUSED, ECONNRESET, ... or `timeout`, or `eof` for an end where an answer was due."""
    if isinstance(failure, TimeoutError):
        return "timeout"
    return errno.errorcode.get(failure.errno or 0, str(failure))


def exchange(sock: socket.socket, line: str) -> str:
    sock.sendall(line.encode() + b"\n")
    data = b""
    while not data.endswith(b"\n"):
        part = sock.recv(4096)
        if not part:
            raise OSError("eof")
        data += part
    return data.decode().strip()


def kept(address: str, port: int, record: dict[str, Any]) -> None:
    try:
        with socket.create_connection((address, port), DEADLINE_S) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            record["local"] = sock.getsockname()[1]
            while not stop.wait(PAUSE_S):
                text = f"{record['id']}-{record['requests']}"
                if exchange(sock, f"echo {text}") != text:
                    raise OSError("wrong answer")
                record["requests"] += 1
                record["at"] = time.monotonic()
    except OSError as failure:
        record["error"], record["at"] = reason(failure), time.monotonic()


def fresh(address: str, port: int) -> dict[str, Any]:
    start = time.monotonic()
    record: dict[str, Any] = {"at": start, "error": "", "server": ""}
    try:
        with socket.create_connection((address, port), DEADLINE_S) as sock:
            record["server"] = json.loads(exchange(sock, "who"))["name"]
    except OSError as failure:
        record["error"] = reason(failure)
    record["took"] = time.monotonic() - start
    return record


def fresh_forever(address: str, port: int, per_second: float, records: list[dict[str, Any]]) -> None:
    """On schedule, not after the previous one: a slow connection must not hide the ones behind it."""
    threads = []
    start = time.monotonic()
    number = 0
    while not stop.wait(max(0.0, start + number / per_second - time.monotonic())):
        number += 1
        thread = threading.Thread(target=lambda: records.append(fresh(address, port)))
        thread.start()
        threads.append(thread)
    for thread in threads:
        thread.join()


def main() -> None:
    address, out = sys.argv[1], sys.argv[5]
    port, count, per_second = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    keeping: list[dict[str, Any]] = [{"id": i, "requests": 0, "error": "", "at": 0.0} for i in range(count)]
    opened: list[dict[str, Any]] = []
    threads = [threading.Thread(target=kept, args=(address, port, record)) for record in keeping]
    if per_second > 0:
        threads.append(threading.Thread(target=fresh_forever, args=(address, port, per_second, opened)))
    for thread in threads:
        thread.start()
    while not stop.is_set():
        _progress(out, keeping, opened)
        stop.wait(0.05)
    for thread in threads:
        thread.join()
    _write(out, {"kept": keeping, "fresh": opened})


def _progress(out: str, keeping: list[dict[str, Any]], opened: list[dict[str, Any]]) -> None:
    """How far we are, so that a test waits for traffic and not for time."""
    done = [record["requests"] for record in keeping]
    _write(out + ".progress", {"kept": done, "broken": sum(bool(r["error"]) for r in keeping), "fresh": len(opened)})


def _write(path: str, value: object) -> None:
    with open(path + ".new", "w") as file:
        json.dump(value, file)
    os.replace(path + ".new", path)


if __name__ == "__main__":
    main()
