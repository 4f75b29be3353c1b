"""One round: an agent starts cold, is looked at, left alone, kept busy, and cut off from the API server for a minute.

Every time is a client's own: what an application in an enrolled pod sees. A change counts from the moment before it is
sent to the API server, so etcd and the server are in it; they, the writer and the load share the agent's machine.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from mesh.config import AgentConfig
from tests.bench import bars, load, machine, proc
from tests.bench.app import HTTP_PORT, ROOT
from tests.bench.bench import Column, Kind, Round
from tests.bench.load import LoadError
from tests.bench.measure import Sample
from tests.bench.report import Result
from tests.bench.scale.effects import Change, Heard, effects, first_answers, heard_in
from tests.bench.scale.objects import Size
from tests.bench.scale.town import PROBES, OnServer, Say, Town, requests_of
from tests.bench.scale.writer import Line, Write, write_at
from tests.bench.stats import percentile
from tests.cluster.binaries import KUBERNETES
from tests.kit.lab import Lab
from tests.kit.seine import Mesh
from tests.kit.wait import eventually

RATE = 200.0  # endpoint changes/s
PROBE_EVERY = 20  # of them one is of a Service that a client asks all the time
LOAD_RATE = 200.0  # requests/s while the API server is away
CONNECTIONS = 8
SYNC_S = 240.0
BACK_S = 30.0  # after which the agent must have caught up; the load lasts as long
SETTLED_S = 10.0  # after a start, before memory is looked at
EFFECT_S = 5.0  # a change that takes longer has none
AGENT_USER = "system:serviceaccount:seine-system:seine-agent"
FULL, QUICK = Size(10_000, 100_000, 50), Size(500, 5_000, 10)
MINUTE_S, QUICK_MINUTE_S = 60.0, 12.0

Listen = Callable[[], list[Heard]]


class Scale(Kind):
    name = "scale"
    bars = bars.SCALE
    rounds, quick_rounds = 3, 1
    columns = (
        Column("sync_s", "first answer, s", digits=1),
        Column("captured_s", "all captured, s", digits=1),
        Column("agent_mib", "agent MiB"),
        Column("worker_mib", "worker MiB"),
        Column("idle_core", "idle, cores", digits=3),
        Column("change_p50_ms", "change, ms, p50"),
        Column("change_p99_ms", "p99"),
        Column("confirmed_p99_ms", "p99 once confirmed"),
        Column("agent_core", "agent, cores", digits=2),
        Column("worker_core", "worker, cores", digits=2),
        Column("agent_late_mib", "agent MiB then"),
        Column("worker_late_mib", "worker MiB then"),
        Column("back_s", "back, s", digits=1),
    )

    def ratios(self, found: Round) -> dict[str, float]:
        sample = found.get("seine", {})
        return {bar.key: sample[bar.key] for bar in self.bars if bar.key in sample}


class ScaleRun:
    """`say` tells how far it is."""

    def __init__(self, bench: Scale, lab: Lab, say: Say) -> None:
        self.bench, self.lab, self.say = bench, lab, say
        self.town = Town(lab, QUICK if bench.quick else FULL, say)
        self.minute = QUICK_MINUTE_S if bench.quick else MINUTE_S

    def rounds(self, count: int) -> Result:
        result = Result(self.bench, {})
        self.town.build()
        for number in range(count):
            self.say(f"round {number + 1}/{count}")
            sample: Sample = {}
            try:
                self._round(sample)
            except (LoadError, TimeoutError, OSError, RuntimeError) as failure:
                result.failures.append(f"round {number + 1}: {failure}")
            result.rounds.append({"seine": sample})
        result.machine = machine.facts({"kubernetes": KUBERNETES})
        return result

    def _round(self, sample: Sample) -> None:
        """Adds to the sample as it goes: what was found before a failure is told."""
        mesh = Mesh(
            self.lab,
            OnServer(self.lab),
            self.town.node,
            kubeconfig=self.town.kubeconfig,
            reconcile_seconds=AgentConfig.reconcile_seconds,  # tests are hastier
            prove_seconds=AgentConfig.prove_seconds,
            log_level=AgentConfig.log_level,
        )
        with self._probing() as listen:
            try:
                sample |= self._sync(mesh, listen)
                sample |= self._memory(mesh, "")
                sample |= self._idle(mesh)
                sample |= self._changes(mesh, listen)
                sample |= self._memory(mesh, "late_")
                sample |= self._outage(mesh, listen)
            finally:
                mesh.stop()

    @contextmanager
    def _probing(self) -> Iterator[Listen]:
        program = [sys.executable, "-S", str(ROOT / "tests/bench/scale/probe.py"), str(HTTP_PORT), *self.town.vips]
        process = self.town.client.popen(program)
        try:
            yield lambda: heard_in(process.output())
        finally:
            process.stop()

    # --- the parts of a round

    def _sync(self, mesh: Mesh, listen: Listen) -> Sample:
        self.say("cold start")
        began = time.monotonic()
        mesh.begin()
        eventually(lambda: len(first_answers(listen())) == PROBES, "answers from every Service", SYNC_S)
        answered = max(first_answers(listen()).values()) - began

        def captured() -> bool:
            return [pod["state"] for pod in mesh.status()["pods"]] == ["captured"] * len(self.town.pods)

        eventually(captured, "all pods to be captured", SYNC_S)
        return {"sync_s": answered, "captured_s": time.monotonic() - began}

    def _memory(self, mesh: Mesh, prefix: str) -> Sample:
        time.sleep(SETTLED_S)
        workers = list(mesh.worker_pids().values())
        agent = proc.rss_kib(mesh.agent.pid) + proc.pss_kib(_helpers(mesh))
        worker = max(proc.rss_kib(pid) for pid in workers)
        return {f"agent_{prefix}mib": agent / 1024, f"worker_{prefix}mib": worker / 1024}

    def _idle(self, mesh: Mesh) -> Sample:
        self.say(f"idle for {self.minute:.0f} s")
        log, since = self.town.control.audit_log, datetime.now(UTC)
        start, agent = log.stat().st_size, _agent_seconds(mesh)
        time.sleep(self.minute)
        with log.open("rb") as file:
            file.seek(start)
            asked = requests_of(AGENT_USER, file, since)
        core = (_agent_seconds(mesh) - agent) / self.minute
        return {"idle_requests_per_min": len(asked) * 60 / self.minute, "idle_core": core}

    def _changes(self, mesh: Mesh, listen: Listen) -> Sample:
        self.say(f"{RATE:.0f} endpoint changes/s for {self.minute:.0f} s")
        wanted: dict[int, tuple[int, str]] = {}

        def make(tick: int) -> Write:
            if tick % PROBE_EVERY:
                return self.town.crowd_change()
            probe = tick // PROBE_EVERY % PROBES
            write, answer = self.town.switch(probe)
            wanted[tick] = (probe, answer)
            return write

        began, agent, workers = time.monotonic(), _agent_seconds(mesh), _worker_seconds(mesh)
        sent = write_at(self.town.control.api, RATE, self.minute, make)
        seconds = time.monotonic() - began
        agent, workers = _agent_seconds(mesh) - agent, _worker_seconds(mesh) - workers
        time.sleep(EFFECT_S)
        changes = [Change(*wanted[each.tick], each.began, each.ended) for each in sent if each.tick in wanted]
        found = effects(changes, listen(), EFFECT_S)
        from_sent, from_confirmed = sorted(each[0] for each in found), sorted(each[1] for each in found)
        return {
            "change_p50_ms": percentile(from_sent, 0.5) * 1e3,
            "change_p99_ms": percentile(from_sent, 0.99) * 1e3,
            "confirmed_p99_ms": percentile(from_confirmed, 0.99) * 1e3,
            "agent_core": agent / seconds,
            "worker_core": workers / seconds,
        }

    def _outage(self, mesh: Mesh, listen: Listen) -> Sample:
        self.say(f"the API server is away for {self.minute:.0f} s")
        control, before = self.town.control, _lists(mesh)
        seconds = self.minute + BACK_S
        log = self.town.client.directory / "outage.log"
        log.unlink(missing_ok=True)
        url = f"http://{self.town.load_vip}/"
        argv, total = load.paced(url, seconds, rate=LOAD_RATE, log=log, connections=CONNECTIONS)
        process = self.town.client.popen(argv)
        control.stop_server()
        time.sleep(self.minute)
        eventually(lambda: _troubles(mesh), "the outage to be noticed", BACK_S)
        control.start_again()
        began = time.monotonic()
        _wait_untroubled(mesh)
        write, answer = self.town.switch(0)
        Line(control.api).write(write)
        eventually(lambda: listen()[-1].answer == answer, "a change to have its effect", BACK_S)
        back = time.monotonic() - began
        process.wait(seconds + load.SLACK_S)
        return {
            "outage_failed": total - load.answered(log.read_text()),
            "relist_count": max(count - before[kind] for kind, count in _lists(mesh).items()),
            "back_s": back,
        }


def _wait_untroubled(mesh: Mesh) -> None:
    try:
        eventually(lambda: not _troubles(mesh), "no trouble any more", BACK_S)
    except TimeoutError as error:
        raise TimeoutError(f"{error}: {'; '.join(_troubles(mesh))}") from None


def _helpers(mesh: Mesh) -> list[int]:
    """The agent's other processes: not workers, which serve on without it."""
    workers = set(mesh.worker_pids().values())
    return [pid for pid in proc.tree(mesh.agent.pid)[1:] if pid not in workers]


def _agent_seconds(mesh: Mesh) -> float:
    return proc.process_seconds([mesh.agent.pid, *_helpers(mesh)])


def _worker_seconds(mesh: Mesh) -> float:
    return proc.process_seconds(mesh.worker_pids().values())


def _lists(mesh: Mesh) -> dict[str, int]:
    return {kind: int(each["lists"]) for kind, each in mesh.status()["source"]["kinds"].items()}


def _troubles(mesh: Mesh) -> list[str]:
    return [each for each in mesh.status()["source"]["errors"] if each.startswith("API server")]
