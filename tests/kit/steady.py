"""Steady load for pods, run as a script until SIGTERM: `steady.py ADDRESS HTTP_PORT CLIENTS OUT [PSQL PG_PORT]`.

Each HTTP client keeps its connection as long as the server does: after `Connection: close`, or an end of the connection
between two requests that the server had announced, it opens another. Whatever else goes wrong is a failure. Beside them
one client of PostgreSQL makes a session, asks, and ends it, again and again. OUT is JSON: {"good", "sessions",
"connections", "failures"}, written now and then and at the end.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

DEADLINE_S = 10.0  # for one request; whoever waits longer for a successor counts as failed
PAUSE_S = 0.01

stop = threading.Event()
lock = threading.Lock()
seen: dict[str, Any] = {"good": 0, "sessions": 0, "connections": 0, "failures": []}


def note(key: str) -> None:
    with lock:
        seen[key] += 1


def failed(what: str) -> None:
    with lock:
        seen["failures"].append(f"at {time.monotonic():.3f} {what}")


def ask_by_http(address: str, port: int) -> None:
    while not stop.is_set():
        connection = http.client.HTTPConnection(address, port, timeout=DEADLINE_S)
        note("connections")
        try:
            while not stop.wait(PAUSE_S):
                connection.request("GET", "/")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    failed(f"status {answer.status}")
                note("good")
                if answer.will_close:
                    break
        except (OSError, http.client.HTTPException) as error:
            failed(f"{type(error).__name__}: {error}")
            stop.wait(0.1)
        finally:
            connection.close()


def ask_by_psql(psql: str, address: str, port: str) -> None:
    target = f"host={address} port={port} user=postgres dbname=postgres connect_timeout=10 sslmode=disable"
    while not stop.wait(PAUSE_S):
        command = [psql, "-XAtq", "-d", target, "-c", "SELECT 42"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
        if done.stdout.strip() == "42":
            note("sessions")
        else:
            failed(f"psql: {done.stderr.strip()}")


def write(path: str) -> None:
    with lock:
        text = json.dumps(seen)
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)


def main() -> None:
    address, port, clients, out, *postgres = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [threading.Thread(target=ask_by_http, args=(address, int(port))) for _ in range(int(clients))]
    if postgres:
        threads.append(threading.Thread(target=ask_by_psql, args=(postgres[0], address, postgres[1])))
    for thread in threads:
        thread.start()
    while not stop.wait(0.05):
        write(out)
    for thread in threads:
        thread.join()
    write(out)


if __name__ == "__main__":
    main()
