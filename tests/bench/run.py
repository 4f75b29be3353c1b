"""Rounds: a lab with a pair of pods per peer, and one turn of each peer per round.

A peer that fails a turn is out of that round, with a sentence; one that fails twice in a row is out of the run. Nothing
else stops a run but its end or a signal, and then the lab takes everything away.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from tests.bench import app, machine
from tests.bench.bench import Bench, Round
from tests.bench.load import LoadError
from tests.bench.measure import Sample
from tests.bench.peer import Mode, Peer, Place, folders, load
from tests.bench.report import Result
from tests.bench.stats import turns
from tests.kit.lab import Lab
from tests.kit.network import Node

Say = Callable[[str], None]
EXPECTED = (LoadError, TimeoutError, OSError, RuntimeError, subprocess.SubprocessError)
STRIKES = 2
SERVERS = 8  # pods of a MANY place: enough for a median in one turn
QUICK_S = 43.0  # `--quick` ends within 45 s, and removing the lab takes one


def kinds(bench: Bench, extra: Sequence[Path], only: Sequence[str] | None) -> dict[str, type[Peer]]:
    """The bench's own peers in its order, then those of `extra` folders; `only` picks among them."""
    found = folders(extra)
    added = [name for name, folder in found.items() if folder.parent in extra]
    names = dict.fromkeys([*(bench.quick_peers if bench.quick else bench.peers), *added])
    return {name: load(found[name]) for name in names if only is None or name in only}


class Run:
    def __init__(
        self,
        bench: Bench,
        lab: Lab,
        say: Say,
        extra: Sequence[Path] = (),
        only: Sequence[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bench, self.lab, self.say = bench, lab, say
        self.kinds = kinds(bench, extra, only)
        self.places: dict[tuple[str, Mode], Peer] = {}
        self.clock, self.begun = clock, clock()
        self.strikes = dict.fromkeys(self.kinds, 0)

    def rounds(self, count: int) -> Result:
        result = Result(self.bench, {})
        self._prepare()
        for number in range(count):
            if not self._fits(number):
                self.say(f"no time for round {number + 1}: the machine is busy")
                break
            self._round(number, count, result)
        result.machine = machine.facts(self._versions())
        return result

    def _fits(self, number: int) -> bool:
        """A quick run is over when another round like those before it would not end in time."""
        spent = self.clock() - self.begun
        return not self.bench.quick or not number or spent + spent / number < QUICK_S

    def _round(self, number: int, count: int, result: Result) -> None:
        found: Round = {}
        for name in turns(list(self.kinds), number):
            if self.strikes[name] < STRIKES:
                self.say(f"round {number + 1}/{count}: {name}")
                self._turn(name, found, result)
        result.rounds.append(self.bench.complete(found))

    def _prepare(self) -> None:
        for name, kind in self.kinds.items():
            for mode in self.bench.modes:
                if mode in kind.modes:
                    self.say(f"making pods for {name} ({mode})")
                    self.places[name, mode] = kind(self._place(name, mode))
        self.bench.prepare(self.lab)

    @cached_property
    def nodes(self) -> tuple[Node, Node]:
        """The client's and the servers'."""
        if self.bench.nodes == 1:
            return self.lab.node, self.lab.node
        return self.lab.make_node("a"), self.lab.make_node("b")

    def _place(self, name: str, mode: Mode) -> Place:
        near, far = self.nodes
        prefix = f"{name.replace('_', '-')}-{mode}"
        client = self.lab.pod(f"{prefix}-client", node=near)
        roles = [f"server-{number}" for number in range(SERVERS)] if mode is Mode.MANY else ["server"]
        servers = [self.lab.pod(f"{prefix}-{role}", node=far) for role in roles]
        kind = app.Nginx if mode in (Mode.HTTP, Mode.MANY) else app.Stream
        apps = tuple(kind(server) for server in servers)
        web = app.Nginx(servers[0]) if mode is Mode.MIXED else None
        return Place(name, client, apps, mode, self.lab.vip()[0], self.lab.name, web)

    def _turn(self, name: str, found: Round, result: Result) -> None:
        sample: Sample = {}
        try:
            for mode in self.bench.modes:
                if (name, mode) in self.places:
                    sample |= self.bench.turn(self.places[name, mode])
        except EXPECTED as failure:
            self.strikes[name] += 1
            result.failures.append(f"round {len(result.rounds) + 1}: {name}: {failure}")
            return
        self.strikes[name] = 0
        found[name] = sample

    def _versions(self) -> dict[str, str]:
        return {name: peer.version() for (name, _), peer in self.places.items() if peer.version()}
