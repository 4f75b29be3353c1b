"""The demo's client, run in its pod until SIGTERM: `traffic.py WEB WEB6 DB PSQL OUT`, three addresses, psql and a file.

A shop's front end, say: HTTP at a bounded rate over keep-alive connections, half of them IPv6, each renewed after a
while; PostgreSQL by the real psql, as one session that stays for a while and as a fresh connection per question.
It is the first witness: OUT is its own count of what it asked and what came of it, as JSON, rewritten all the time and
a last time after SIGTERM, when everything under way has ended. Nothing is tried twice: a failure is a failure.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
from typing import Any

REQUESTS_PER_SECOND = 200.0
CONNECTIONS = 16
REQUESTS_PER_CONNECTION = 100  # then a new one, so that capture has something to do
ORDERS_PER_SECOND = 20.0  # in one session of psql
ORDERS_PER_SESSION = 100
REPORTS_PER_SECOND = 4.0  # each by a psql and a connection of its own, 15 ms of a core
DEADLINE_SECONDS = 5.0
ERRORS_KEPT = 5

stop = threading.Event()


class Tally:
    """Everything that happened, counted by whoever made it happen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.web: dict[str, Any] = {"asked": 0, "good": 0, "connections": 0, "replicas": {}}
        self.db: dict[str, Any] = {"asked": 0, "good": 0, "connections": 0}
        self.errors: list[str] = []

    def connected(self, service: dict[str, Any]) -> None:
        with self._lock:
            service["connections"] += 1

    def good(self, service: dict[str, Any], replica: str = "") -> None:
        with self._lock:
            service["asked"] += 1
            service["good"] += 1
            if replica:
                service["replicas"][replica] = service["replicas"].get(replica, 0) + 1

    def bad(self, service: dict[str, Any], failure: object) -> None:
        with self._lock:
            service["asked"] += 1
            if len(self.errors) < ERRORS_KEPT:
                self.errors.append(f"{type(failure).__name__}: {failure}")

    def write(self, path: str) -> None:
        with self._lock:
            text = json.dumps({"web": self.web, "db": self.db, "errors": self.errors})
        with open(path + ".new", "w") as file:
            file.write(text)
        os.replace(path + ".new", path)


tally = Tally()


def paced(per_second: float) -> bool:
    """Wait as long as chance says (events of a Poisson process); False: it is time to stop."""
    return not stop.wait(random.expovariate(per_second))


# --- HTTP


def browse(address: str) -> None:
    """One keep-alive connection after the other."""
    while not stop.is_set():
        connection = http.client.HTTPConnection(address, 80, timeout=DEADLINE_SECONDS)
        try:
            for _ in range(REQUESTS_PER_CONNECTION):
                if not paced(REQUESTS_PER_SECOND / CONNECTIONS):
                    return
                tally.good(tally.web, fetch(connection))
        except (OSError, http.client.HTTPException) as failure:
            tally.bad(tally.web, failure)
        finally:
            connection.close()


def fetch(connection: http.client.HTTPConnection) -> str:
    """The answering replica's name."""
    if connection.sock is None:
        connection.connect()
        tally.connected(tally.web)
    connection.request("GET", "/", headers={"Host": "web.shop"})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise http.client.HTTPException(f"status {response.status}")
    return body.decode().strip()


# --- PostgreSQL


class Session:
    """A psql that is asked line by line."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self._psql = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)
        assert self._psql.stdin is not None
        assert self._psql.stdout is not None
        self._in, self._out = self._psql.stdin, self._psql.stdout
        self._fresh = True

    def ask(self, query: str) -> str:
        """One line of answer; OSError for everything else."""
        self._in.write(query.encode() + b";\n")
        self._in.flush()
        if not select.select([self._out], [], [], DEADLINE_SECONDS)[0]:
            raise TimeoutError("no answer from PostgreSQL")
        answer = self._out.readline().decode().strip()
        if not answer.isdigit():
            raise OSError(answer or "psql ended")
        if self._fresh:
            tally.connected(tally.db)
        self._fresh = False
        return answer

    def close(self) -> None:
        try:
            self._in.close()
            self._psql.wait(DEADLINE_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            self._psql.kill()
            self._psql.wait()


def order(command: list[str]) -> None:
    """One session after the other, many queries in each."""
    while paced(ORDERS_PER_SECOND):
        session = Session(command)
        try:
            for number in range(ORDERS_PER_SESSION):
                if number and not paced(ORDERS_PER_SECOND):  # the first at once: psql has connected already
                    return
                session.ask("insert into orders default values returning number")
                tally.good(tally.db)
        except OSError as failure:
            tally.bad(tally.db, failure)
        finally:
            session.close()


def report(command: list[str]) -> None:
    """A connection for every question."""
    while paced(REPORTS_PER_SECOND):
        query(command, "select count(*) from orders")


def query(command: list[str], text: str) -> None:
    try:
        done = subprocess.run([*command, "-c", text], capture_output=True, timeout=DEADLINE_SECONDS, check=False)
        if done.returncode != 0:
            raise OSError(done.stderr.decode(errors="replace").strip())
    except (OSError, subprocess.TimeoutExpired) as failure:
        tally.bad(tally.db, failure)
        return
    tally.connected(tally.db)
    tally.good(tally.db)


def main() -> None:
    web, web6, db, psql, out = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    target = f"host={db} user=postgres dbname=postgres sslmode=disable connect_timeout={DEADLINE_SECONDS:.0f}"
    command = [psql, "-XAtq", "-d", target]
    query(command, "create table orders(number bigserial primary key, at timestamptz default now())")
    threads = [threading.Thread(target=browse, args=(web6 if n % 2 else web,)) for n in range(CONNECTIONS)]
    threads += [threading.Thread(target=errand, args=(command,)) for errand in (order, report)]
    for thread in threads:
        thread.start()
    while not stop.wait(0.2):
        tally.write(out)
    for thread in threads:
        thread.join()
    tally.write(out)


if __name__ == "__main__":
    main()
