"""Workers, and whoever else serves beside them, are kept alive: started, watched for a sign of life, killed when they
hang, replaced when they die.

Each is a session of its own: it outlives the agent, and the next agent adopts it, which its lock tells (`programs`).
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
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from mesh.aio.channel import Channel
from mesh.forward import programs
from mesh.forward.fleet import Fleet
from mesh.forward.programs import Program

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


class Present(Protocol):
    """A process that is connected."""

    @property
    def pid(self) -> int: ...

    @property
    def channel(self) -> Channel: ...


class Charge(ABC):
    """A program that is kept alive, over successive processes."""

    def __init__(self, program: Program, silent_checks_max: int = HUNG_CHECKS) -> None:
        self.program, self.silent_checks_max = program, silent_checks_max
        self.wanted = True  # else it is not started again
        self.starts = 0
        self.restarts = 0
        self.started_at = 0.0
        self.next_start = 0.0
        self.last_beat = 0
        self.silent_checks = 0
        self.process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def present(self) -> Present | None:
        """None: nobody is connected."""

    @abstractmethod
    def beat(self) -> int:
        """Changes while it lives."""


class Worker(Charge):
    def __init__(self, number: int, run_dir: Path, fleet: Fleet, cells: mmap.mmap) -> None:
        super().__init__(programs.worker(run_dir, number))
        self.number = number
        self._fleet, self._cells = fleet, cells

    def present(self) -> Present | None:
        return self._fleet.members.get(self.number)

    def beat(self) -> int:
        """When, by the monotonic clock in nanoseconds; 0: never."""
        return int(struct.unpack_from("Q", self._cells, 8 * (1 + self.number))[0])


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
        """`starts`: False where somebody else starts them (mesh.launcher), who is offered their locks."""
        self._starts = starts
        self._uid = uid
        self._clock = clock
        self._cells = mmap.mmap(heartbeat_fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)
        self.workers = [Worker(number, run_dir, fleet, self._cells) for number in range(count)]
        self._charges: list[Charge] = [*self.workers]

    def take(self, charge: Charge) -> None:
        """Keep somebody alive who is no worker."""
        self._charges.append(charge)

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            for charge in self._charges:
                self._check(charge)
            await asyncio.sleep(CHECK_SECONDS)

    async def adopt(self) -> None:
        """Wait for those of a former agent; end who does not answer, for they hold listeners."""
        deadline = self._clock() + ADOPT_SECONDS
        while (silent := self._silent()) and self._clock() < deadline:
            await asyncio.sleep(CHECK_SECONDS / 5)
        for charge in silent if self._starts else ():  # else their launcher's, which alone knows their processes
            self._kill(charge, "it lives and does not answer")
        while self._silent() and self._clock() < deadline + ADOPT_SECONDS:
            await asyncio.sleep(CHECK_SECONDS / 5)

    def _silent(self) -> list[Charge]:
        return [charge for charge in self._charges if charge.present() is None and charge.program.is_alive()]

    # --- watching

    def _check(self, charge: Charge) -> None:
        if charge.process is not None and charge.process.poll() is not None:
            charge.process = None
        if not self._starts:
            charge.program.offer(self._uid if charge.wanted else 0)
        present = charge.present()
        if present is not None and not charge.started_at:
            charge.started_at = self._clock()  # adopted: who follows it is its successor
        if present is None:
            charge.silent_checks = 0  # whoever comes, by whomever he is started, has all his time
            self._start_if_dead(charge)
        elif self._hangs(charge):
            self._kill(charge, f"no sign of life for {charge.silent_checks_max * CHECK_SECONDS:.0f} s")
            present.channel.close()

    def _hangs(self, charge: Charge) -> bool:
        """Counts checks without a beat, not seconds: a suspended machine or a late agent condemns nobody."""
        beat = charge.beat()
        charge.silent_checks = charge.silent_checks + 1 if beat == charge.last_beat else 0
        charge.last_beat = beat
        return charge.silent_checks >= charge.silent_checks_max

    def _start_if_dead(self, charge: Charge) -> None:
        now = self._clock()
        if not self._starts or now < charge.next_start or not charge.wanted:
            return
        if (lock := charge.program.take()) is None:
            if now - charge.started_at > START_SECONDS_MAX:
                self._kill(charge, "it never said hello")
            return
        if charge.starts and now - charge.started_at > STEADY_SECONDS:
            charge.starts = 1
        charge.restarts += bool(charge.started_at)
        charge.starts += 1
        charge.started_at = now
        charge.next_start = now + RESTART_SECONDS[min(charge.starts, len(RESTART_SECONDS) - 1)]
        charge.process = self._start(charge, lock)

    def _start(self, charge: Charge, lock: int) -> subprocess.Popen[bytes]:
        process = charge.program.start(lock, self._uid, outlives_us=True)
        log.info("%s started as process %d", charge.program.name, process.pid)
        return process

    # --- ends

    def _kill(self, charge: Charge, why: str) -> None:
        present = charge.present()
        pid = present.pid if present else programs.holder(charge.program.lock)
        if not pid:  # 0 would be ourselves
            return
        log.error("%s (process %d) is killed: %s", charge.program.name, pid, why)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it died between the look and the kill: what was wanted

    # --- answers

    def beat_age(self, number: int) -> float:
        """Seconds since a worker's last heartbeat; 0 before its first."""
        beat = self.workers[number].beat()
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


def end_workers(run_dir: Path) -> list[int]:
    """End what an agent that is gone has left running, and wait for it; the process ids. For `seine clean`."""
    ended = []
    names = ("worker-*.lock", programs.QUIC_LOCK, programs.SIGNER_LOCK)
    for path in sorted(path for name in names for path in run_dir.glob(name)):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody lives and holds it
            if (pid := programs.holder(path)) is not None:
                os.kill(pid, signal.SIGKILL)
                fcntl.flock(fd, fcntl.LOCK_EX)
                ended.append(pid)
        finally:
            os.close(fd)
    return ended
