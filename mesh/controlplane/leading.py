"""Tries to lead for ever, by a Lease on the API server; see mesh.controlplane.election."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

from mesh.controlplane.election import TRY_SECONDS, Election, Move, Seen, lease, seen
from mesh.kube.api.requests import CONFLICT, ApiFailure, Requests

log = logging.getLogger("seine.controller")
NAME = "seine-controller"


class Leading:
    def __init__(self, requests: Requests, namespace: str, me: str) -> None:
        self._requests, self._namespace = requests, namespace
        self._election = Election(me)
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._before: Seen | None = None
        self.holder = ""  # as last read
        self.changes = 0  # times that we began or ceased to lead
        self.failures = 0
        self._led = False

    @property
    def leads(self) -> bool:
        return self._election.leads(time.monotonic())

    async def run(self) -> None:
        told = ""
        while True:
            try:
                await self._turn()
                told = ""
            except ApiFailure as failure:
                self.failures += 1
                if str(failure) != told:
                    log.warning("the Lease %s: %s", NAME, failure)
                told = str(failure)
            self._tell()
            await asyncio.sleep(TRY_SECONDS)

    async def _turn(self) -> None:
        found = await self._requests.find(f"{self._folder}/{NAME}")
        self._before = seen(found) if found is not None else None
        self.holder = self._before.holder if self._before else ""
        now = time.monotonic()
        move = self._election.decide(self._before, now)
        if move is not Move.WAIT:
            await self._write(self._election.me, now)

    async def _write(self, holder: str, now: float) -> None:
        made = lease(NAME, self._namespace, holder, self._before, datetime.now(UTC))
        try:
            if self._before is None:
                await self._requests.create(self._folder, made)
            else:
                await self._requests.replace(f"{self._folder}/{NAME}", made)
        except ApiFailure as failure:
            if failure.code != CONFLICT:
                raise
            self._election.lost()  # somebody was quicker
            return
        self.holder = holder
        self._election.won(now)

    def _tell(self) -> None:
        if self.leads is not self._led:
            self._led = not self._led
            self.changes += 1
            log.info("this replica leads" if self._led else "this replica does not lead any more")

    async def resign(self) -> None:
        """Give it back, so that nobody has to wait for us."""
        if not self.leads:
            return
        try:
            self._before = seen(await self._requests.get(f"{self._folder}/{NAME}"))
            if self._before.holder == self._election.me:
                await self._write("", time.monotonic())
        except ApiFailure as failure:
            log.warning("the Lease %s is not given back, the next leader waits: %s", NAME, failure)
        self._election.lost()
