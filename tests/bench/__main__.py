"""python -m tests.bench NAME: measure, print a table, and one line of JSON at the end.

Exit status 0: everything asked for was measured, and every figure is proven by its peer's own counter; 1: something was
not. A missed bar is no failure of the measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from tests.bench.bench import Bench, Kind
from tests.bench.connect import Connect
from tests.bench.handshake import Handshake
from tests.bench.http1 import Http1
from tests.bench.memory import Memory
from tests.bench.mtls import Mtls
from tests.bench.mtls_bulk import MtlsBulk
from tests.bench.quic import Quic
from tests.bench.report import show
from tests.bench.run import Run, Say
from tests.bench.scale import Scale, ScaleRun
from tests.bench.tcp import Tcp
from tests.kit.lab import Lab

COMPARED: tuple[type[Bench], ...] = (Http1, Tcp, Connect, Memory, Mtls, MtlsBulk, Handshake, Quic)
KINDS: tuple[type[Kind], ...] = (*COMPARED, Scale)
BENCHES = {kind.name: kind for kind in KINDS}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dev bench", description="Seine, no mesh and other proxies, in one run.")
    parser.add_argument("bench", choices=BENCHES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result with every round there")
    parser.add_argument(
        "--quick", action="store_true", help="within 45 s: direct, Seine, HAProxy, Envoy; scale: 500 Services, 2 min"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="default 7, with --quick 3; scale 3 and 1")
    parser.add_argument("--peers", type=Path, metavar="DIR", action="append", default=[], help="more peers' folders")
    parser.add_argument("--only", metavar="A,B", help="only these peers")
    return parser.parse_args()


def runner(bench: Kind, lab: Lab, say: Say, given: argparse.Namespace) -> Run | ScaleRun:
    if isinstance(bench, Scale):
        return ScaleRun(bench, lab, say)
    assert isinstance(bench, Bench)
    return Run(bench, lab, say, given.peers, given.only.split(",") if given.only else None)


def main() -> int:
    given, console = arguments(), Console(width=None if sys.stdout.isatty() else 160)
    if os.geteuid():
        sys.exit("the bench makes network namespaces: run it as root (./dev bench does)")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # inherited by every program of the run
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
    started = time.monotonic()

    def say(sentence: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {sentence}", file=sys.stderr, flush=True)

    bench = BENCHES[given.bench](given.quick)
    try:
        with Lab("bench") as lab:
            result = runner(bench, lab, say, given).rounds(given.rounds or bench.usual_rounds)
    except KeyboardInterrupt:
        say("interrupted; everything is removed")
        return 130
    show(result, console)
    if given.json:
        given.json.write_text(json.dumps(result.document(raw=True), indent=1) + "\n")
    print(json.dumps(result.document()))
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
