"""Starts workers, signer and QUIC process of a node where the agent does not: in a pod of their own, without any
privilege. Wiring only.

In Kubernetes what shall outlive the agent may not be its child in the same container. Who dies starts again at once,
with the agent's pauses; told to end, all drain and the launcher ends after them. Whether they hang is the agent's to
judge: it sees their signs of life, and may kill them. Who is wanted it says by offering their locks.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Sequence

from mesh.config import AgentConfig, strange_variables
from mesh.forward import programs
from mesh.forward.programs import Program
from mesh.forward.supervisor import RESTART_SECONDS, STEADY_SECONDS
from mesh.observe.logs import to_stream

log = logging.getLogger("seine.launcher")
LOOK_SECONDS = 0.1


class Child:
    """A program over its successive processes."""

    def __init__(self, program: Program) -> None:
        self.program = program
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

    def start(self, uid: int, now: float) -> None:
        """Nothing while the agent does not offer the lock, or another process holds it."""
        lock = self.program.take_offered()
        if lock is None:
            return
        self.process = self.program.start(lock, uid, outlives_us=False)
        self.starts, self.started_at = self.starts + 1, now
        log.info("%s started as process %d", self.program.name, self.process.pid)


def run(config: AgentConfig) -> None:
    """Blocks until a signal says that all shall end, and all have ended."""
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    workers = [programs.worker(config.run_dir, number) for number in range(config.workers)]
    others = (programs.quic(config.run_dir), programs.signer(config.run_dir))
    children = [Child(program) for program in (*workers, *others)]
    with to_stream(config.log_level):
        for sentence in strange_variables(AgentConfig):
            log.warning("%s", sentence)
        while not ending.wait(LOOK_SECONDS):
            now = time.monotonic()
            for child in children:
                if not child.alive and child.due(now):
                    child.start(config.worker_uid, now)
        end(children, config.workers)


def end(children: Sequence[Child], workers: int) -> None:
    """One worker lets in who comes until the others have gone: nobody else of this node would. And until then all
    have handshakes: their signer, the last of the children, is told as the last."""
    *others, signer = children
    alive = [child.process for child in others if child.process is not None and child.alive]
    last = next((child.process for child in reversed(children[:workers]) if child.process in alive), None)
    for process in alive:
        process.send_signal(programs.RETIRE if process is last else signal.SIGTERM)
    for process in sorted(alive, key=lambda each: each is last):
        process.terminate()
        process.wait()
    if signer.process is not None:
        signer.process.terminate()
        signer.process.wait()
