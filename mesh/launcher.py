"""Starts the workers of a node where the agent does not: in a pod of their own, without any privilege. Wiring only.

In Kubernetes what shall outlive the agent may not be its child in the same container. Workers that die start again at
once, with the agent's pauses; told to end, all drain and the launcher ends after them. Whether they hang is the agent's
to judge: it sees their heartbeat, and may kill them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from mesh.config import AgentConfig
from mesh.forward.supervisor import RESTART_SECONDS, STEADY_SECONDS, lock_path
from mesh.observe.logs import to_stream

log = logging.getLogger("seine.launcher")
LOOK_SECONDS = 0.1


class Worker:
    """One worker number over its successive processes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.starts = 0
        self.started_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def due(self, now: float) -> bool:
        """Whether the pause since the last start is over; a steady minute forgives all that was before."""
        if self.starts and now - self.started_at > STEADY_SECONDS:
            self.starts = 0
        return now >= self.started_at + RESTART_SECONDS[min(self.starts, len(RESTART_SECONDS) - 1)]

    def start(self, config: AgentConfig, now: float) -> None:
        """Nothing while the agent has not made the lock yet, or another process holds it."""
        lock = take_lock(config.run_dir, self.number)
        if lock is None:
            return
        command = [sys.executable, "-m", "mesh.worker", "--worker", str(self.number), "--uid", str(config.worker_uid)]
        command += ["--agent-socket", str(config.run_dir / "agent.sock"), "--lock", str(lock)]
        try:
            self.process = subprocess.Popen(command, pass_fds=[lock], stdin=subprocess.DEVNULL)
        finally:
            os.close(lock)
        self.starts, self.started_at = self.starts + 1, now
        log.info("worker %d started as process %d", self.number, self.process.pid)


def take_lock(run_dir: Path, number: int) -> int | None:
    try:
        fd = os.open(lock_path(run_dir, number), os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def run(config: AgentConfig) -> None:
    """Blocks until a signal says that all shall end, and all have ended."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    workers = [Worker(number) for number in range(config.workers)]
    with to_stream(config.log_level):
        while not ending.wait(LOOK_SECONDS):
            now = time.monotonic()
            for worker in workers:
                if not worker.alive and worker.due(now):
                    worker.start(config, now)
        for worker in workers:
            if worker.process is not None:
                worker.process.terminate()
                worker.process.wait()
