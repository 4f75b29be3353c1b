"""Load generators as functions: wrk for saturation and new connections, h2load for a fixed rate.

wrk has one thread: of two cores the generator may never take more than one, and one thread saturates every proxy
here. h2load paces each connection by a timer of its own; started at once they would all fire in the same instant and
measure their own queue (seen: p50 957 us against 173 us), so connections are opened spread over one period.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from tests.bench.stats import percentile
from tests.kit.lab import Pod

CONNECTIONS = 32  # keep-alive connections of the client; design.md's figures use the same
RATE_KEPT = 0.9  # of the asked rate, or it was no fixed rate
SLACK_S = 20  # a generator that runs longer over its time than this is killed and the bench fails
SCRIPT = Path(__file__).with_name("report.lua")


class LoadError(Exception):
    """A generator failed or saw wrong answers: the turn is worth nothing."""


@dataclass(frozen=True)
class Load:
    """What the client counted itself."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def output(pod: Pod, argv: list[str], timeout: float) -> str:
    """What a program in the pod printed; LoadError with its last words when it failed."""
    done = pod.run(argv, timeout=timeout)
    if done.returncode:
        raise LoadError(f"{argv[0]} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout


def wrk(pod: Pod, url: str, seconds: float, *, connections: int = CONNECTIONS, close: bool = False) -> Load:
    """As fast as it goes. `close`: each request on a connection of its own."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "-s", str(SCRIPT)]
    argv += ["-H", "Connection: close"] if close else []
    return parse_wrk(output(pod, [*argv, url], seconds + SLACK_S))


def parse_wrk(text: str) -> Load:
    found = json.loads(text.splitlines()[-1])
    if wrong := {name: count for name, count in found["errors"].items() if count}:
        raise LoadError(f"wrk counted errors: {wrong}")
    if not found["requests"]:
        raise LoadError("wrk got no answer")
    return Load(found["requests"], found["microseconds"] / 1e6, found["p50"], found["p99"])


def warm_up(pod: Pod, url: str, requests: int) -> None:
    """So many requests as fast as they go, not measured: connections, pools, code and memory are there afterwards."""
    output(pod, ["h2load", "--h1", "-t1", f"-c{CONNECTIONS}", f"-n{requests}", url], SLACK_S)


def paced(url: str, seconds: float, *, rate: float, log: Path, connections: int) -> tuple[list[str], int]:
    """What `h2load` runs, and how many requests it will have made."""
    total = int(rate * seconds) // connections * connections
    opened_per_ms = max(1, round(rate / 1000))
    log.unlink(missing_ok=True)  # it appends
    argv = ["h2load", "--h1", "-t1", f"-c{connections}", f"-n{total}", f"--rps={rate / connections:.3f}"]
    return [*argv, f"-r{opened_per_ms}", "--rate-period=1ms", f"--log-file={log}", url], total


def h2load(pod: Pod, url: str, seconds: float, *, rate: float, log: Path, connections: int = CONNECTIONS) -> Load:
    """`rate` requests/s in all, over connections whose timers are spread over 1/rate."""
    argv, total = paced(url, seconds, rate=rate, log=log, connections=connections)
    output(pod, argv, seconds + SLACK_S)
    found = parse_h2load(log.read_text(), total)
    if found.rate < RATE_KEPT * rate:
        raise LoadError(f"h2load reached {found.rate:.0f} of {rate:.0f} requests/s: its latencies are those of a queue")
    return found


def parse_h2load(text: str, total: int) -> Load:
    """Rows: start in microseconds, status, microseconds to the end of the response."""
    good = _good(text)
    if len(good) != total:
        raise LoadError(f"h2load: {len(good)} of {total} requests answered with 200")
    latencies = sorted(took for _, took in good)
    span = max(start + took for start, took in good) - min(start for start, _ in good)
    return Load(total, span / 1e6, percentile(latencies, 0.5), percentile(latencies, 0.99))


def answered(text: str) -> int:
    """How many requests of a log of h2load were answered with 200."""
    return len(_good(text))


def _good(text: str) -> list[tuple[int, int]]:
    rows = [tuple(int(field) for field in line.split()[:3]) for line in text.splitlines()]
    return [(start, took) for start, status, took in rows if status == 200]
