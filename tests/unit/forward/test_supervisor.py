"""Who is started, who is let live, and who is killed: decided by locks and heartbeats, with a clock of our own."""

import fcntl
import itertools
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mesh.forward import programs
from mesh.forward.fleet import Fleet, Member
from mesh.forward.supervisor import HUNG_CHECKS, Charge, Supervisor, Worker, end_workers
from tests.kit.clock import FakeClock


class FakeChannel:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Bench(Supervisor):
    """A supervisor that notes whom it would start and kill."""

    def __init__(self, run_dir: Path, clock: FakeClock, starts: bool = True) -> None:
        self.heartbeat = os.memfd_create("heartbeat")
        os.ftruncate(self.heartbeat, mmap.PAGESIZE)
        self.fleet = Fleet(None, None, None, self.heartbeat)  # type: ignore[arg-type]
        super().__init__(run_dir, 2, 65532, self.fleet, self.heartbeat, clock, starts)
        self.started: list[str] = []
        self.killed: list[str] = []

    def _start(self, charge: Charge, lock: int) -> subprocess.Popen[bytes]:
        self.started.append(charge.program.name)
        os.close(lock)
        return None  # type: ignore[return-value]

    def _kill(self, charge: Charge, why: str) -> None:
        self.killed.append(charge.program.name)

    def join(self, number: int) -> FakeChannel:
        channel = FakeChannel()
        self.fleet.members[number] = Member(number, 4711 + number, channel)  # type: ignore[arg-type]
        return channel

    def beat(self, number: int, value: int) -> None:
        os.pwrite(self.heartbeat, struct.pack("Q", value), 8 * (1 + number))

    def check(self, number: int) -> Worker:
        self._check(self.workers[number])
        return self.workers[number]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, FakeClock(100.0))


def test_a_worker_that_is_not_there_is_started_and_then_ever_later(bench: Bench, tmp_path: Path) -> None:
    clock: FakeClock = bench._clock  # type: ignore[assignment]
    times: list[float] = []
    for _ in range(400):
        bench.check(0)
        if len(times) < len(bench.started):
            times.append(clock())
        clock.advance(0.1)
    pauses = [round(b - a, 1) for a, b in itertools.pairwise(times)]
    assert pauses[:5] == sorted(pauses[:5])
    assert max(pauses) <= 5.1
    assert bench.workers[0].restarts == len(times) - 1


def test_a_living_worker_that_has_not_come_back_yet_is_not_started_twice(bench: Bench, tmp_path: Path) -> None:
    with programs.worker(tmp_path, 0).lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        bench._clock.now = 1.0  # type: ignore[attr-defined]
        bench.check(0)
    assert bench.started == []


def test_a_worker_that_beats_lives_and_one_that_stops_is_killed_once_it_was_silent_long_enough(bench: Bench) -> None:
    channel = bench.join(0)
    for beat in range(1, 20):
        bench.beat(0, beat)
        bench.check(0)
    assert bench.killed == []
    for _ in range(HUNG_CHECKS - 1):
        bench.check(0)
    assert bench.killed == []
    bench.check(0)
    assert bench.killed == ["worker 0"]
    assert channel.closed


def test_the_successor_of_one_that_hung_before_it_ever_beat_has_all_its_time(tmp_path: Path) -> None:
    """Its first look has the same beat as the last one of who was killed: none."""
    bench = Bench(tmp_path, FakeClock(100.0), starts=False)
    bench.join(0)
    for _ in range(HUNG_CHECKS):
        bench.check(0)
    assert bench.killed == ["worker 0"]
    del bench.fleet.members[0]
    bench.check(0)
    bench.join(0)
    bench.check(0)
    assert bench.killed == ["worker 0"]


def test_the_successor_of_one_that_was_adopted_is_counted(bench: Bench) -> None:
    bench.join(0)
    bench.check(0)
    del bench.fleet.members[0]
    assert bench.check(0).restarts == 1


def test_a_machine_that_slept_condemns_nobody(bench: Bench) -> None:
    """After a suspension the beats are old, but the first look counts as one check only."""
    bench.join(0)
    bench.beat(0, 1)
    bench.check(0)
    bench._clock.advance(3600)  # type: ignore[attr-defined]
    bench.check(0)
    assert bench.killed == []


def test_who_is_not_wanted_any_more_is_not_started_again(bench: Bench) -> None:
    bench.workers[0].wanted = False
    bench.check(0)
    assert bench.started == []
    bench.workers[0].wanted = True
    bench.check(0)
    assert bench.started == ["worker 0"]


def test_where_somebody_else_starts_them_he_is_offered_the_locks_of_who_is_wanted(tmp_path: Path) -> None:
    bench = Bench(tmp_path, FakeClock(100.0), starts=False)
    lock = bench.workers[0].program.lock
    bench.check(0)
    assert (lock.stat().st_uid, bench.started) == (65532, [])
    bench.workers[0].wanted = False
    bench.check(0)
    assert lock.stat().st_uid == 0


def test_beating_is_what_the_hooks_take_for_life(bench: Bench) -> None:
    assert not bench.beating()
    os.pwrite(bench.heartbeat, struct.pack("Q", time.monotonic_ns()), 0)
    assert bench.beating()
    os.pwrite(bench.heartbeat, struct.pack("Q", time.monotonic_ns() - 4_000_000_000), 0)
    assert not bench.beating()


def test_clean_ends_exactly_the_processes_that_hold_the_locks(tmp_path: Path) -> None:
    path = programs.worker(tmp_path, 0).lock
    program = "import fcntl,os,sys,time\nf=open(sys.argv[1],'w')\nfcntl.flock(f,fcntl.LOCK_EX)\n"
    program += "f.write('1')\nf.flush()\nprint(flush=True)\ntime.sleep(60)\n"  # what it is called in a container
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        programs.worker(tmp_path, 1).lock.write_text(f"{os.getpid()}\n")  # stale: nobody holds it, so nobody is ended
        programs.quic(tmp_path).lock.write_text(f"{os.getpid()}\n")
        assert end_workers(tmp_path) == [process.pid]
        assert process.wait(5) == -signal.SIGKILL
