"""Signatures that the agent makes: asked for by number, answered later, or at once with none when there is no agent."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from mesh.forward.messages import Message, Sign

Answer = Callable[[bytes], None]
WAITING_MAX = 1024  # handshakes under way on a node have a limit well below


class Signer:
    """`say`: to the agent; None while it is away."""

    def __init__(self) -> None:
        self._jobs = count(1)
        self._waiting: dict[int, Answer] = {}
        self._say: Callable[[Message], None] | None = None

    def meet(self, say: Callable[[Message], None]) -> None:
        self._say = say

    def part(self) -> None:
        """The agent is away: nobody answers any more."""
        self._say = None
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer(b"")

    def sign(self, identity: str, content: bytes, answer: Answer) -> None:
        if self._say is None or len(self._waiting) >= WAITING_MAX:
            answer(b"")
            return
        job = next(self._jobs)
        self._waiting[job] = answer
        self._say(Sign(job=job, identity=identity, content=content))

    def signed(self, job: int, signature: bytes) -> None:
        if (answer := self._waiting.pop(job, None)) is not None:
            answer(signature)
