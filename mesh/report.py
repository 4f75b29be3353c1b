"""What the agent tells of itself: kernel, fleet, workers and source put together into one document. Reads only."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from mesh.announce import Announcement
from mesh.arrivals import Arrivals
from mesh.capture import Kernel
from mesh.config import AgentConfig
from mesh.control import quic_nodes
from mesh.credentials import Credentials
from mesh.enrolment import Enrolment, Member
from mesh.forward.engine import StatsError, bucket_bounds_us, read_counters, read_policies, read_series
from mesh.forward.fleet import Fleet
from mesh.forward.quic.desk import Desk
from mesh.forward.supervisor import Supervisor, Worker
from mesh.held import HeldNodes
from mesh.model import Authorization, FailMode, MeshNode, Mtls, Pod, PodState, Ruling, Series, Snapshot, Transport
from mesh.node_routes import NodeRoutes
from mesh.observe import status
from mesh.observe.build import version
from mesh.observe.chronicle import Standing
from mesh.observe.names import Names, PolicyName, names_of
from mesh.observe.observer import Look
from mesh.observe.rulings import Rulings
from mesh.probes import Probes
from mesh.source import Source
from mesh.watch import Watch

log = logging.getLogger("seine.authz")
DUMPED_CONNECTIONS = 1000  # per worker; a bug report is read by people


class Report:
    def __init__(
        self,
        config: AgentConfig,
        kernel: Kernel,
        fleet: Fleet,
        supervisor: Supervisor,
        enrolment: Enrolment,
        watch: Watch,
        announcement: Announcement,
        source: Source,
        routes: NodeRoutes,
        credentials: Credentials,
        desk: Desk,
        held: HeldNodes,
        arrivals: Arrivals | None,
        probes: Probes | None,
    ) -> None:
        self._config, self._kernel, self._fleet = config, kernel, fleet
        self._supervisor, self._enrolment, self._watch, self._announcement = supervisor, enrolment, watch, announcement
        self._routes, self._credentials, self._desk, self._held = routes, credentials, desk, held
        self._arrivals, self._probes = arrivals, probes
        self._started = time.monotonic()
        self._source_of_all = source
        self._rulings = Rulings()
        self.see(Snapshot())

    def see(self, snapshot: Snapshot) -> None:
        self._snapshot, self._changed_at = snapshot, time.monotonic()
        self._known: Names | None = None

    @property
    def _names(self) -> Names:
        """Made when somebody asks: it takes 0.2 s in a large cluster, whose objects change all the time."""
        if self._known is None:
            self._known = names_of(self._snapshot, self._config.trust_domain)
        return self._known

    def look(self) -> Look:
        return Look(document=self._document(), names=self._names)

    def series(self) -> Mapping[int, Sequence[Series]]:
        """Every worker's counters, also those of a worker that is dead now."""
        found = {}
        for worker in self._supervisor.workers:
            with contextlib.suppress(StatsError):  # nothing was counted yet
                found[worker.number] = read_series(self._stats(worker.number))
        return found

    def _stats(self, number: int) -> memoryview:
        """A copy: whoever took over a worker could shorten a mapped file under the agent's feet (SIGBUS)."""
        try:
            return memoryview((self._config.run_dir / f"worker-{number}.stats").read_bytes())
        except FileNotFoundError:
            return memoryview(b"")

    def _document(self) -> status.StatusDocument:
        kernel = self._kernel.counters()
        return status.StatusDocument(
            node=self._config.node,
            version=version(),
            kernel=platform.release(),
            pid=os.getpid(),
            taken_at=time.time(),
            uptime_seconds=time.monotonic() - self._started,
            adopted=self._kernel.adopted,
            repairs=tuple(self._watch.repairs),
            repairs_total=self._watch.repairs_total,
            pods=tuple(self._pod(pod, kernel) for pod in self._snapshot.pods if pod.enrolled or pod.refused),
            workers=tuple(self._worker(worker) for worker in self._supervisor.workers),
            policies=self._policies(),
            source=self._source(),
            shortcut=status.ShortcutStatus(
                available=self._kernel.shortcut.available, detail=self._kernel.shortcut.detail
            ),
            trust_domain=self._config.trust_domain,
            peers=tuple(self._peer(node) for node in self._snapshot.nodes),
            peer_lists_lost=self._held.lost,
            announced=self._announced(),
            identity=self._credentials.shown(),
            quic=self._quic(),
            cni=self._arrivals.status() if self._arrivals else None,
            kubelet_problem=self._probes.problem if self._probes else "",
            routing=status.RoutingStatus(
                mode=self._config.node_routing,
                neighbours=self._routes.neighbours,
                repairs_total=self._routes.repairs_total,
                problem=self._routes.problem,
            ),
            latency_bounds_us=bucket_bounds_us(),
        )

    def _peer(self, node: MeshNode) -> status.PeerStatus:
        gone, left = self._held.missing(node)
        detour = self._detour(node)
        return status.PeerStatus(
            node=node.name,
            transport=node.transport,
            workloads=len(node.workloads),
            missing_seconds=gone,
            held_seconds=left,
            problem=self._held.problem(node),
            used=Transport.HBONE if detour else node.transport,
            detour=detour,
        )

    def _detour(self, node: MeshNode) -> str:
        """Why a node is reached by HBONE that asks for QUIC."""
        if node.transport is not Transport.QUIC:
            return ""
        where = quic_nodes(self._snapshot).get(node.name)
        if where is None:
            return "its Node object is not there or has no InternalIP"
        if self._desk.member is None:
            return self._desk.problem or "our QUIC process is not up"
        return next((way.reason for way in self._desk.ways if way.node == where and way.way != Transport.QUIC), "")

    def _source(self) -> status.SourceStatus:
        now = time.monotonic()
        return status.SourceStatus(
            kind=self._source_of_all.name,
            age_seconds=now - self._source_of_all.looked_at,
            unchanged_seconds=now - self._changed_at,
            errors=(*self._snapshot.errors, *(f"{uid}: {why}" for uid, why in self._enrolment.problems.items())),
            warnings=self._snapshot.warnings,
            kinds={
                kind: status.KindStatus(lists=lists, failures=failures)
                for kind, (lists, failures) in self._source_of_all.counts.items()
            },
        )

    def _quic(self) -> status.QuicStatus:
        desk = self._desk
        return status.QuicStatus(
            wanted=desk.wanted,
            pid=desk.member.pid if desk.member else 0,
            up=desk.member is not None,
            restarts=desk.restarts,
            counts=desk.counts,
            levels=desk.levels,
            ways=tuple(
                status.QuicWay(node=each.node, way=each.way, reason=each.reason, seconds=each.seconds)
                for each in desk.ways
            ),
            problem=desk.problem,
        )

    def _announced(self) -> status.AnnouncedStatus:
        said = self._announcement.said
        return status.AnnouncedStatus(
            path=self._announcement.board.name if self._announcement.board else "",
            workloads=len(said.workloads) if said else 0,
            problem=self._announcement.problem,
        )

    def _policies(self) -> tuple[status.PolicyStatus, ...]:
        """Those that exist, and one for what none allowed."""
        sums: dict[int, Counter[str]] = defaultdict(Counter)
        for worker in self._supervisor.workers:
            with contextlib.suppress(StatsError):
                for id, verdicts in read_policies(self._stats(worker.number)).items():
                    sums[id].update(verdicts)
        none = PolicyName(namespace="", name="", action="")
        return tuple(
            status.PolicyStatus(
                namespace=name.namespace,
                name=name.name,
                action=name.action,
                dry_run=name.dry_run,
                verdicts=dict(sums[id]),
            )
            for id, name in (*self._names.policies.items(), (0, none))
            if id or sums[0]
        )

    def authorization(self, namespace: str, name: str) -> status.PodAuthorization | None:
        """None: there is no such pod in the mesh here."""
        for member in self._enrolment.members.values():
            workload, pod = member.pod.workload, member.pod
            if (workload.namespace, workload.name) == (namespace, name):
                return status.PodAuthorization(
                    namespace=namespace,
                    name=name,
                    identity=workload.identity(self._config.trust_domain),
                    trust_domain=self._config.trust_domain,
                    authorization=self._fleet.policies.get(member.slot, Authorization()),
                    fail_mode=FailMode.CLOSED if pod.mtls is Mtls.STRICT else pod.fail_mode,
                    mtls=pod.mtls,
                    skip_inbound_ports=tuple(sorted(pod.skip_inbound_ports)),
                    denied=tuple(denial.what for denial in self._credentials.keeper.denials()),
                )
        return None

    def told(self, rulings: Iterable[Ruling]) -> None:
        """What policies said, into the log."""
        for line in self._rulings.lines(rulings, self._names, self._name_of_slot, self._name_of_client):
            log.info("%s", line.text, extra=line.fields)

    def _name_of_slot(self, slot: int) -> str:
        workload = next((each.pod.workload for each in self._enrolment.members.values() if each.slot == slot), None)
        return f"{workload.namespace}/{workload.name}" if workload else ""

    def _name_of_client(self, address: str) -> str:
        source = self._fleet.sources.get(address)
        party = self._names.parties.get(source.workload) if source else None
        return f"{party.namespace}/{party.pod}" if party else ""

    def _pod(self, pod: Pod, kernel: Mapping[int, Mapping[str, int]]) -> status.PodStatus:
        workload = pod.workload
        common = status.PodStatus(
            namespace=workload.namespace,
            name=workload.name,
            state=PodState.REFUSED,
            fail_mode=pod.fail_mode,
            shortcut=pod.shortcut,
            mtls=pod.mtls,
            detail=self._enrolment.problems.get(workload.uid, ""),
        )
        member = self._enrolment.members.get(workload.uid)
        return self._member(common, member, kernel.get(member.slot, {})) if member else common

    def standings(self) -> Iterator[Standing]:
        """For Events. Not of pods that are being started, and not where nothing new may be written any more."""
        for pod in self._snapshot.pods:
            workload = pod.workload
            starting = not pod.netns and not pod.refused
            if not (pod.enrolled or pod.refused) or starting or workload.namespace in self._snapshot.ending:
                continue
            member = self._enrolment.members.get(workload.uid)
            state, _, detail = self._watch.of(member) if member else (PodState.REFUSED, 0, "")
            yield Standing(
                uid=workload.uid,
                namespace=workload.namespace,
                name=workload.name,
                state=state,
                detail=detail or self._enrolment.problems.get(workload.uid, ""),
            )

    def _member(self, common: status.PodStatus, member: Member, kernel: Mapping[str, int]) -> status.PodStatus:
        state, bypassing, detail = self._watch.of(member)
        return msgspec.structs.replace(
            common,
            state=state,
            detail=detail or common.detail,
            slot=member.slot,
            captured=kernel.get("captured", 0) + kernel.get("inbound_captured", 0),
            bypassing=bypassing,
            kernel=dict(kernel),
            stock=self._stock(member.slot),
            identity=self._enrolment.identity(member),
        )

    def _stock(self, slot: int) -> dict[str, int]:
        levels = [level for worker in self._fleet.members.values() if (level := worker.stock.get(slot))]
        return {"ipv4": sum(level.ipv4 for level in levels), "ipv6": sum(level.ipv6 for level in levels)}

    def _worker(self, worker: Worker) -> status.WorkerStatus:
        member = self._fleet.members.get(worker.number)
        try:
            counters, gauges = read_counters(self._stats(worker.number))
        except StatsError:
            counters, gauges = {}, {}
        return status.WorkerStatus(
            worker=worker.number,
            pid=member.pid if member else 0,
            up=member is not None,
            restarts=worker.restarts,
            heartbeat_age_seconds=self._supervisor.beat_age(worker.number),
            counters=counters,
            gauges=gauges,
        )


async def dump(report: Report, fleet: Fleet, run_dir: Path) -> dict[str, object]:
    """For bug reports: everything that is known, as plain values."""
    carried = await fleet.show(DUMPED_CONNECTIONS)
    return {
        "status": report.look().document,
        "run_dir": str(run_dir),
        "pods": [pod.told for pod in fleet.pods.values()],
        "plans": list(fleet.plans.values()),
        "policies": {str(slot): each for slot, each in fleet.policies.items()},
        "workers": {
            number: {"pid": member.pid, "carries": carried.get(number)} for number, member in fleet.members.items()
        },
        "series": report.series(),
    }
