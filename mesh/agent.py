"""The node agent: wiring only. It plans, holds every privilege, and is not needed for a single request.

Started, it locks its node name, opens the kernel's tables (or adopts those it finds), meets the workers that outlived
its predecessor, and from then on follows its source. Ended, it leaves everything working: `seine clean` undoes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial

import uvloop
from msgspec import structs

from mesh import rundir
from mesh.aio.channel import Channel
from mesh.aio.doorway import Doorway, Peer
from mesh.aio.duties import lasting, run_until
from mesh.announce import Announcement
from mesh.arrivals import Arrivals
from mesh.capture import Kernel, cgroup2_root, pin_root
from mesh.capture.sockets import SocketFactory
from mesh.config import AgentConfig, Switch, strange_variables
from mesh.credentials import Credentials
from mesh.enrolment import Enrolment
from mesh.forward import programs
from mesh.forward.fleet import Fleet
from mesh.forward.messages import Limits, Welcome
from mesh.forward.quic.desk import Desk
from mesh.forward.signing import desk as signing
from mesh.forward.supervisor import Supervisor
from mesh.held import HeldNodes
from mesh.herald import Herald
from mesh.identity.keeper import Audiences
from mesh.kube.api.publication import ApiBoard
from mesh.kube.api.source import KubernetesSource
from mesh.model import Host, Ruling, Snapshot, Transport
from mesh.node_routes import NodeRoutes
from mesh.observe import admin, identity_admin
from mesh.observe.observer import Observer
from mesh.observe.server import Server
from mesh.observe.status import Draining
from mesh.probes import Probes
from mesh.report import Report, dump
from mesh.source import Places, open_roots, open_source
from mesh.watch import Watch

log = logging.getLogger("seine.agent")
FIRST_BEAT_SECONDS = 5.0  # a worker needs 0.3 s; one that cannot start must not keep pods out for ever
FILES_MIN = 512  # 60 for itself, 3 for each pod, some for whoever asks; `seine check` wants many more for workers
Serve = Callable[[Channel, int], Coroutine[None, None, None]]
LAST_WORD_SECONDS = 2.0  # Helm deletes the namespace last of all; until we end, workers have all they ask for
OBSERVE_SECONDS = 5.0  # counters are filed under the names of their time: a pod's name changes no faster


def welcome(config: AgentConfig) -> Welcome:
    """What a worker is told first."""
    limits = Limits(
        max_connections=config.max_connections,
        connect_timeout_ms=int(1000 * config.connect_timeout_seconds),
        detect_timeout_ms=int(1000 * config.detect_timeout_seconds),
        idle_timeout_ms=int(1000 * config.idle_timeout_seconds),
        stream_idle_ms=int(1000 * config.stream_idle_timeout_seconds),
    )
    return Welcome(node=config.node, drain_seconds=config.drain_seconds, limits=limits)


class AgentError(RuntimeError):
    """A sentence for the operator."""


def raise_open_files() -> None:
    """Shells give 1024, which the sockets held for ten pods would use up; workers inherit what we have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most < FILES_MIN:
        raise AgentError(f"the limit of open files is {most}; the agent needs {FILES_MIN} (ulimit -n, LimitNOFILE=)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Agent:
    def __init__(self, config: AgentConfig, kernel: Kernel) -> None:
        self.config, self.kernel = config, kernel
        self.factory = SocketFactory()
        self.signing = signing.Desk(config.run_dir)
        self.fleet = Fleet(welcome(config), self.factory.sockets, self.signing.open, kernel.heartbeat_fd, self._told)
        self.desk = Desk(config.node, config.run_dir, config.worker_uid, config.drain_seconds, self.signing.open)
        self.signing.changed = self._renew_signer
        self.credentials = Credentials(config, Audiences(self.fleet, self.desk), self.signing, open_roots(config))
        self.supervisor = Supervisor(
            *(config.run_dir, config.workers, config.worker_uid, self.fleet, kernel.heartbeat_fd, time.monotonic),
            starts=config.external_workers is Switch.DISABLED,
        )
        self.supervisor.take(self.signing)
        self.supervisor.take(self.desk)
        self.enrolment = Enrolment(config, kernel, self.factory, self.fleet, self.credentials.certified)
        self.watch = Watch(config, kernel, self.factory, self.enrolment, self.supervisor.beating)
        self.source, board = open_source(config)
        self.places = Places(cgroup2_root())
        # No certificate of theirs lasts longer than that.
        self.held = HeldNodes(config.run_dir / "nodes", config.certificate_seconds)
        self.announcement = Announcement(config, self.enrolment, self.watch, lambda: self.snapshot is not None, board)
        self.routes = NodeRoutes(config)
        self.arrivals: Arrivals | None = None
        if config.cni_conf and isinstance(self.source, KubernetesSource):
            self.arrivals = Arrivals(config, self.source, self.places, self.enrolment)
        self.probes = Probes(config.node, kernel, cgroup2_root(), self._hosts) if config.from_api else None
        self.report = Report(
            *(config, kernel, self.fleet, self.supervisor, self.enrolment, self.watch, self.announcement),
            self.source,
            self.routes,
            self.credentials,
            self.desk,
            self.held,
            self.arrivals,
            self.probes,
        )
        self.observer = Observer(self.report.look, self.report.series)
        self._turn = asyncio.Lock()  # one snapshot at a time: an older one would let go of pods that just arrived
        self.found: Snapshot | None = None  # what the source said last
        self.snapshot: Snapshot | None = None  # the same with pods' places and missing nodes, in effect
        self.leaving = False  # our own namespace is being deleted, and with it this installation

    async def run(self) -> None:
        """Until a signal says otherwise; `leaving` tells whether what outlives an agent shall go too."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._end, stop)
        await self.factory.start(self.kernel.cgroup)
        self.credentials.note(self.config.run_dir / "identity")
        server = await self._serve()
        with (
            self._meet("agent.sock", self._serve_worker),
            self._meet("quic.sock", self.desk.converse),
            self._meet("signer.sock", self._serve_signer, socket.SOCK_SEQPACKET),
        ):
            await self.supervisor.adopt()
            duties = [self.supervisor.run, self._follow, self._reconcile, self.watch.run, self._observe]
            duties += [self.announcement.run, self.routes.run, self.credentials.keeper.run]
            board = self.announcement.board
            if isinstance(board, ApiBoard):
                duties += [board.run, Herald(board, self.report.standings).run]
            duties += [each.run for each in (self.arrivals, self.probes) if each is not None]
            await run_until(stop, duties)
            if isinstance(board, ApiBoard):
                board.close()
        await server.close()
        self.watch.drains.close()
        await self.factory.close()
        self.places.close()
        self.observer.close()
        self.desk.close()
        if not self.leaving:
            log.info("the agent ends; the workers serve on, `seine clean --node %s` would end them", self.config.node)

    def _end(self, stop: asyncio.Event) -> None:
        """In a pod not at once: whoever deletes our DaemonSet may be about to delete our namespace too."""
        in_pod = self.config.from_api and not self.config.kubeconfig
        asyncio.get_running_loop().call_later(LAST_WORD_SECONDS if in_pod else 0, stop.set)

    async def _serve(self) -> Server:
        async def everything() -> object:
            return await dump(self.report, self.fleet, self.config.run_dir)

        server = Server()
        await server.listen_unix(
            self.config.run_dir / "admin.sock",
            {
                **admin.private(self.observer, self._unready, everything, self.report.authorization, self._drain),
                **identity_admin.routes(self.credentials),
            },
        )
        host, port = self.config.admin_address, self.config.admin_port
        try:
            port = await server.listen_tcp(
                host, port, admin.public(self.observer, self._unready, everything, self.report.authorization)
            )
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise AgentError(
                f"metrics have no place at {host}:{port} ({reason}); --metrics-address gives another"
            ) from None
        (self.config.run_dir / "admin.port").write_text(f"{port}\n")
        log.info("metrics on http://%s:%d/metrics", self.config.admin_address, port)
        return server

    def _renew_signer(self) -> None:
        self.fleet.renew_signer()
        self.desk.renew_signer()

    def _told(self, rulings: Sequence[Ruling]) -> None:
        self.report.told(rulings)

    def _hosts(self) -> tuple[Host, ...]:
        return self.snapshot.hosts if self.snapshot else ()

    def _unready(self) -> str:
        if self.snapshot is None:
            return "the source was not read yet"
        if not self.fleet.members:
            return "no worker is up yet"
        return ""

    async def _drain(self, namespace: str, name: str, begin: bool) -> Draining | None:
        for uid, member in self.enrolment.members.items():
            if (member.pod.workload.namespace, member.pod.workload.name) == (namespace, name):
                return await self.watch.drain(member) if begin else self.watch.drains.of(uid)
        return None

    async def _follow(self) -> None:
        known: set[str] = set()
        await self.supervisor.first_beat(FIRST_BEAT_SECONDS)  # captured before it, a pod would meet its fail rule
        async for found in self.source.watch():
            for error in set(found.errors) - known:
                log.error("%s", error)
            for warning in set(found.warnings) - known:
                log.warning("%s", warning)
            known = {*found.errors, *found.warnings}
            await lasting(partial(self._bring_in, found))

    async def _bring_in(self, found: Snapshot) -> None:
        if self.config.from_api and self.config.namespace in found.ending:
            found = self._leave(found)
        async with self._turn:
            snapshot = self._completed(found)
            await self.credentials.want(snapshot)
            await self._take_effect(snapshot)
            self.routes.see(snapshot.hosts)
            self.report.see(snapshot)
            self.found = found

    async def _take_effect(self, snapshot: Snapshot) -> None:
        await self.enrolment.apply(snapshot)
        self._tell_quic(snapshot)
        self.snapshot = snapshot
        if self.arrivals is not None:
            self.arrivals.brought(snapshot)

    def _completed(self, found: Snapshot) -> Snapshot:
        return self.places.located(found if self.leaving else self.held.complete(found))

    def _leave(self, found: Snapshot) -> Snapshot:
        """Nobody here is in the mesh any more, nor elsewhere: every agent hears of it in the same moment."""
        if not self.leaving:
            log.warning("namespace %s is being deleted: all pods leave the mesh", self.config.namespace)
        self.leaving = True
        return structs.replace(found, pods=(), nodes=(), policies=(), default_deny=frozenset(), closed=frozenset())

    async def _reconcile(self) -> None:
        """Namespaces come and go without a word from the source; so does the time for which missing lists hold."""
        while True:
            await asyncio.sleep(self.config.reconcile_seconds)
            async with self._turn:
                if self.found is not None:
                    before, snapshot = self.snapshot, self._completed(self.found)
                    await self._take_effect(snapshot)
                    if before is None or before.nodes != snapshot.nodes:
                        self.report.see(snapshot)

    async def _observe(self) -> None:
        while True:
            await asyncio.sleep(OBSERVE_SECONDS)
            await self.observer.observe()

    def _tell_quic(self, snapshot: Snapshot) -> None:
        """Whether somebody reaches somebody by QUIC, and who is here to be reached."""
        asked = {self.config.transport, *(node.transport for node in snapshot.nodes if node.workloads)}
        self.desk.want(Transport.QUIC in asked)
        here = ((self.enrolment.identity(member), member.pod) for member in self.enrolment.members.values())
        self.desk.set_here({address: name for name, pod in here if name for address in pod.workload.addresses})

    @contextlib.contextmanager
    def _meet(self, name: str, serve: Serve, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[None]:
        """Processes of the workers' uid find us at this socket."""
        path = self.config.run_dir / name
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, kind) as listener:
            listener.bind(str(path))
            os.chown(path, self.config.worker_uid, self.config.worker_uid)
            path.chmod(0o600)
            listener.listen(64)
            doorway = Doorway(listener, partial(self._receive, serve), log, "a worker")
            doorway.open()
            try:
                yield
            finally:
                doorway.close()

    def _receive(self, serve: Serve, sock: socket.socket, peer: Peer) -> Coroutine[None, None, None] | None:
        if peer.uid != self.config.worker_uid:
            log.warning("a process of uid %d knocked at the workers' door and was turned away", peer.uid)
            return None
        return serve(Channel(sock), peer.pid)

    async def _serve_signer(self, channel: Channel, pid: int) -> None:
        """Workers have its uid and could knock, but no key is for them. Where a launcher starts both, the lock is of
        that uid too, and this keeps out only who did not take it."""
        if programs.holds(pid, self.signing.program.lock):
            await self.signing.converse(channel, pid)
            return
        log.warning(
            "process %d came for the keys and is not the signer: it was turned away; is a worker compromised?", pid
        )
        channel.close()

    async def _serve_worker(self, channel: Channel, pid: int) -> None:
        await self.fleet.converse(channel, lambda worker: rundir.open_stats(self.config.run_dir, worker), pid)


def run(config: AgentConfig) -> bool:
    """Blocks until the agent ends. Whether its installation is deleted, so that nothing of it shall stay on this node.

    Raises AgentError, RunDirError and KernelError, each a sentence.
    """
    for sentence in strange_variables(AgentConfig):
        log.warning("%s", sentence)
    lock = rundir.lock(config.run_dir, config.node)
    rundir.reserve(config.run_dir, config.workers)
    raise_open_files()
    wanted = config.shortcut is Switch.ENABLED
    kernel = Kernel.open(config.node, cgroup_root=cgroup2_root(), pins=pin_root(), shortcut=wanted)
    if wanted and not kernel.shortcut.available:
        log.warning("pods that ask for the kernel short-cut use TCP: %s", kernel.shortcut.detail)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            agent = Agent(config, kernel)
            runner.run(agent.run())
            return agent.leaving
    finally:
        kernel.close()
        os.close(lock)
