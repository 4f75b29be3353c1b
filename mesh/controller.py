"""The controller of a cluster: wiring only. Two replicas sign certificates for agents; the one that leads decides.

Nothing it knows is only here: roots, denials and records are objects of the cluster, so it may be killed at any moment.
Without it agents go on with what they have until their certificates end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable
from http import HTTPStatus

import uvloop

from mesh import custody
from mesh.aio.duties import run_until
from mesh.config import ControllerConfig
from mesh.controlplane import metrics, serving
from mesh.controlplane.departed import Departed
from mesh.controlplane.gate import Gate
from mesh.controlplane.keeping import Keeping
from mesh.controlplane.leading import Leading
from mesh.controlplane.rooting import Rooting
from mesh.controlplane.serving import Serving
from mesh.controlplane.statuses import Statuses
from mesh.custody import Custody
from mesh.identity import denial
from mesh.identity.authority import AuthorityError, Trust
from mesh.identity.embedded import Embedded
from mesh.identity.server import AuthorityServer
from mesh.kube.api.access import open_access
from mesh.kube.api.requests import Requests
from mesh.observe import identity_admin, status
from mesh.observe.exposition import render
from mesh.observe.identity_admin import Refused
from mesh.observe.server import Request, Response, Routes, Server

log = logging.getLogger("seine.controller")
SOCKET = "admin.sock"
READY_SECONDS = 0.1


class ControllerError(RuntimeError):
    """A sentence for the operator."""


class Controller:
    def __init__(self, config: ControllerConfig) -> None:
        self.config = config
        access = open_access(config.kubeconfig)
        self.requests = Requests(access, "seine-controller")
        self.leading = Leading(self.requests, config.namespace, f"{config.name}-{secrets.token_hex(4)}")
        self.keeping = Keeping(self.requests, config.namespace)
        self.authority = Embedded(
            *(self.keeping, config.trust_domain, config.certificate_seconds, config.settle_seconds),
            *(time.time, time.monotonic),
            decides=False,
        )
        self.rooting = Rooting(
            self.requests, self.keeping, self.authority, config.root_secret, lambda: self.leading.leads
        )
        names = serving.names(config.service, config.namespace)
        self.serving = Serving(self.authority.issuer, names, time.time)
        gate = Gate(self.requests, config.namespace, config.trust_domain)
        self.server = AuthorityServer(self.authority, gate.authorise, time.time)
        self.statuses = Statuses(access, self.requests, config, lambda: self.leading.leads)
        self.departed = Departed(self.requests, self.keeping, lambda: self.leading.leads)
        self.office = Office(self.authority, config.root_secret, self._problem)
        self.admin = Server()

    async def run(self) -> None:
        """Until a signal says otherwise."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await self._listen()
        duties = [self.leading.run, self.keeping.run, self.rooting.run, self.serving.run, self._serve]
        await run_until(stop, [*duties, self.statuses.follow, self.statuses.run, self.departed.run])
        await self.server.close()
        await self.leading.resign()
        await self.admin.close()
        self.statuses.close()
        self.requests.close()

    async def _listen(self) -> None:
        config = self.config
        config.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        await self.admin.listen_unix(config.run_dir / SOCKET, {**self._routes(), **identity_admin.routes(self.office)})
        try:
            port = await self.admin.listen_tcp(config.address, config.admin_port, self._routes())
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            raise ControllerError(f"metrics have no place at port {config.admin_port}: {reason}") from None
        log.info("metrics on port %d", port)

    async def _serve(self) -> None:
        """Agents find nobody here before we can prove ourselves."""
        while not self.serving.ready:
            await asyncio.sleep(READY_SECONDS)
        port = await self.server.listen(self.config.address, self.config.port, self.serving.context)
        log.info("certificates on port %d", port)
        await asyncio.Event().wait()

    # --- what is told

    def _trust(self) -> Trust | None:
        try:
            return self.authority.look()
        except AuthorityError:
            return None

    def _problem(self) -> str:
        return self.rooting.handed_problem or self.rooting.problem or self.keeping.problem

    def unready(self) -> str:
        """Why we cannot sign; "": we can."""
        try:
            self.authority.look()
        except AuthorityError as error:
            return self.rooting.handed_problem or str(error)
        return "" if self.serving.ready else self.serving.problem

    def _routes(self) -> Routes:
        async def healthy(_: Request) -> Response:
            return Response(b"ok\n")

        async def ready(_: Request) -> Response:
            reason = self.unready()
            return Response(f"{reason or 'ok'}\n".encode(), HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK)

        async def measure(request: Request) -> Response:
            offers = metrics.offers(self.leading, self.server, self.statuses, self.departed, self._trust())
            body = render(offers, request.headers.get("accept", ""), request.query.get("name[]", []))
            return Response(body.content, content_type=body.content_type)

        return {("GET", "/healthz"): healthy, ("GET", "/readyz"): ready, ("GET", "/metrics"): measure}


class Office(Custody):
    """What operators see and do here: `seine identity --node controller` in a pod of ours.

    `problem`: why roots are not as they should be, though there are some.
    """

    def __init__(self, authority: Embedded, handed: str, problem: Callable[[], str]) -> None:
        super().__init__(authority)
        self._authority, self._handed, self._problem = authority, handed, problem

    def shown(self, chains: bool = False) -> status.IdentityStatus:
        try:
            trust = self._authority.look()
        except AuthorityError as error:
            return status.IdentityStatus(authority=self._authority.kind, problem=str(error))
        return status.IdentityStatus(
            authority=self._authority.kind,
            answered_at=time.time(),
            problem=self._problem(),
            roots=custody.roots(trust.roots, chains),
            denied=custody.denials(denial.active(trust.denied, time.time())),
        )

    async def rotate(self) -> status.Rotation:
        if self._handed:
            raise Refused(f"the root is handed in by Secret {self._handed}: change it there, and all follow")
        return await super().rotate()


def run(config: ControllerConfig) -> None:
    """Blocks until the controller ends. Raises ControllerError, a sentence."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Controller(config).run())
