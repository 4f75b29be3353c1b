"""Workers are kept alive: started, watched by their heartbeat, killed when they hang, replaced when they die.

A worker is a session of its own: it outlives the agent, and the next agent adopts it. Its lock file tells so: the
descriptor with the lock is inherited by the worker and held by nobody else, thus locked means alive (flock(2)).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mesh.forward.fleet import Fleet

log = logging.getLogger("seine.agent")
CHECK_SECONDS = 0.25
HUNG_CHECKS = 4  # so many checks in a row without a beat: about 1 s (design section 2)
ADOPT_SECONDS = 3.0  # a living worker knocks every 0.2 s
RESTART_SECONDS = (
    0.0,
    0.1,
    0.2,
    0.5,
    1.0,
    2.0,
    5.0,
)  # pauses before the n-th start in a row; reset after a steady minute
STEADY_SECONDS = 60.0
DEAD_NS = 3_000_000_000  # the hooks' limit (design section 6)
START_SECONDS_MAX = 10.0  # from exec to hello; 0.3 s on an idle machine


class Worker:
    """One worker number over its successive processes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.starts = 0
        self.restarts = 0
        self.started_at = 0.0
        self.next_start = 0.0
        self.beat = 0
        self.silent_checks = 0
        self.process: subprocess.Popen[bytes] | None = None


class Supervisor:
    def __init__(
        self,
        run_dir: Path,
        count: int,
        uid: int,
        fleet: Fleet,
        heartbeat_fd: int,
        clock: Callable[[], float],
        starts: bool = True,
    ) -> None:
        """`starts`: False where somebody else starts the workers (mesh.launcher); then they lock their own files."""
        self._run_dir, self._starts = run_dir, starts
        self._uid = uid
        self._fleet = fleet
        self._clock = clock
        self._cells = mmap.mmap(heartbeat_fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        self.workers = [Worker(number) for number in range(count)]
        if not starts:
            for number in range(count):
                offer_lock(run_dir, number, uid)

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            for worker in self.workers:
                self._check(worker)
            await asyncio.sleep(CHECK_SECONDS)

    async def adopt(self) -> None:
        """Wait for the workers of a former agent; end those that do not answer, for they hold listeners."""
        deadline = self._clock() + ADOPT_SECONDS
        while (silent := self._silent()) and self._clock() < deadline:
            await asyncio.sleep(CHECK_SECONDS / 5)
        for number in silent if self._starts else ():  # else their launcher's, which alone knows their processes
            self._kill(number, "it lives and does not answer")
        while self._silent() and self._clock() < deadline + ADOPT_SECONDS:
            await asyncio.sleep(CHECK_SECONDS / 5)

    def _silent(self) -> set[int]:
        return {w.number for w in self.workers if w.number not in self._fleet.members and self._is_alive(w.number)}

    # --- watching

    def _check(self, worker: Worker) -> None:
        if worker.process is not None and worker.process.poll() is not None:
            worker.process = None
        member = self._fleet.members.get(worker.number)
        if member is None:
            self._start_if_dead(worker)
        elif self._hangs(worker):
            self._kill(worker.number, "no heartbeat for a second")
            member.channel.close()

    def _hangs(self, worker: Worker) -> bool:
        """Counts checks without a beat, not seconds: a suspended machine or a late agent condemns nobody."""
        beat = struct.unpack_from("Q", self._cells, 8 * (1 + worker.number))[0]
        worker.silent_checks = worker.silent_checks + 1 if beat == worker.beat else 0
        worker.beat = beat
        return worker.silent_checks >= HUNG_CHECKS

    def _start_if_dead(self, worker: Worker) -> None:
        now = self._clock()
        if not self._starts or now < worker.next_start:
            return
        if (lock := self._lock(worker.number)) is None:
            if now - worker.started_at > START_SECONDS_MAX:
                self._kill(worker.number, "it never said hello")
            return
        if worker.starts and now - worker.started_at > STEADY_SECONDS:
            worker.starts = 1
        worker.restarts += bool(worker.started_at)
        worker.starts += 1
        worker.started_at = now
        worker.silent_checks = 0
        worker.next_start = now + RESTART_SECONDS[min(worker.starts, len(RESTART_SECONDS) - 1)]
        worker.process = self._start(worker.number, lock)

    def _start(self, number: int, lock: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "mesh.worker", "--worker", str(number), "--uid", str(self._uid)]
        command += ["--agent-socket", str(self._run_dir / "agent.sock"), "--lock", str(lock)]
        try:
            process = subprocess.Popen(command, start_new_session=True, pass_fds=[lock], stdin=subprocess.DEVNULL)
        finally:
            os.close(lock)
        log.info("worker %d started as process %d", number, process.pid)
        return process

    # --- locks and ends

    def _is_alive(self, number: int) -> bool:
        lock = self._lock(number)
        if lock is not None:
            os.close(lock)
        return lock is None

    def _lock(self, number: int) -> int | None:
        """The descriptor with the worker's lock, or None while a living worker holds it."""
        fd = os.open(lock_path(self._run_dir, number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def _kill(self, number: int, why: str) -> None:
        member = self._fleet.members.get(number)
        pid = member.pid if member else self._read_pid(number)
        if pid is None:
            return
        log.error("worker %d (process %d) is killed: %s", number, pid, why)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it died between the look and the kill: what was wanted

    def _read_pid(self, number: int) -> int | None:
        """The pid of a worker that holds its lock, which it wrote there as its first act."""
        return read_pid(lock_path(self._run_dir, number))

    # --- answers

    def beat_age(self, number: int) -> float:
        """Seconds since a worker's last heartbeat; 0 before its first."""
        beat = struct.unpack_from("Q", self._cells, 8 * (1 + number))[0]
        return max(0.0, (time.monotonic_ns() - beat) / 1e9) if beat else 0.0

    async def first_beat(self, seconds: float) -> bool:
        """Waits until some worker lives, at most so long."""
        deadline = self._clock() + seconds
        while not self.beating() and self._clock() < deadline:
            await asyncio.sleep(CHECK_SECONDS / 10)
        return self.beating()

    def beating(self) -> bool:
        """Whether the hooks take this node for alive (bpf/common.h: `beating`)."""
        beat = struct.unpack_from("Q", self._cells, 0)[0]
        return bool(beat) and time.monotonic_ns() - beat <= DEAD_NS


def lock_path(run_dir: Path, number: int) -> Path:
    return run_dir / f"worker-{number}.lock"


def offer_lock(run_dir: Path, number: int, uid: int) -> None:
    """A lock file that a worker of that uid, which may make no file here, can hold by itself."""
    fd = os.open(lock_path(run_dir, number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.fchown(fd, uid, uid)
    os.close(fd)


def read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return None


def end_workers(run_dir: Path) -> list[int]:
    """End the workers of a node that has no agent any more, and wait for it; their process ids. For `seine clean`."""
    ended = []
    for path in sorted(run_dir.glob("worker-*.lock")):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody lives and holds it
            if (pid := read_pid(path)) is not None:
                os.kill(pid, signal.SIGKILL)
                fcntl.flock(fd, fcntl.LOCK_EX)
                ended.append(pid)
        finally:
            os.close(fd)
    return ended
