"""What the leader does about roots: it makes the first one or takes the one handed in, takes the steps of a rotation,
and tells everybody whom to believe before anybody is issued from there.

State is in the authority's files and in the bundle, never here: the next leader goes on where this one was.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable

from mesh.config import ROOTS_BUNDLE, ROOTS_KEY
from mesh.controlplane.keeping import PART, Keeping
from mesh.identity import certificate, handed
from mesh.identity.authority import AuthorityError, Trust
from mesh.identity.certificate import BadCertificate
from mesh.identity.embedded import Embedded
from mesh.identity.handed import Handed
from mesh.identity.rotation import Handing, Step, next_step
from mesh.kube.api.requests import ApiFailure, Object, Requests

log = logging.getLogger("seine.controller")
LOOK_SECONDS = 1.0
TELL_SECONDS = 60.0
HANDED_SECONDS = 10.0  # whoever renews a root does it days before its end


class Rooting:
    def __init__(
        self, requests: Requests, keeping: Keeping, authority: Embedded, secret: str, leads: Callable[[], bool]
    ) -> None:
        """`secret`: with the root that somebody else made; "": we make our own."""
        self._requests, self._keeping, self._authority = requests, keeping, authority
        self._secret, self._leads = secret, leads
        self._handed_due = self._tell_due = 0.0
        self._told: str | None = None  # the bundle as we know it to be
        self.problem = ""
        self.handed_problem = ""

    async def run(self) -> None:
        while True:
            if self._leads():
                try:
                    await self._turn()
                    self.problem = ""
                except (AuthorityError, ApiFailure) as error:
                    if str(error) != self.problem:
                        log.error("roots: %s", error)
                    self.problem = str(error)
            else:
                self._told, self.problem, self.handed_problem = None, "", ""
            await asyncio.sleep(LOOK_SECONDS)

    async def _turn(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._secret and now >= self._handed_due:
            await self._take()
            self._handed_due = now + HANDED_SECONDS
        trust = await self._trust()
        if now >= self._tell_due:
            self._told = None  # somebody may have removed it
            self._tell_due = now + TELL_SECONDS
        await self._tell(trust)
        if next_step(trust.roots) is not Step.NONE:
            await self._keeping.look_at_records()
            after = await self._authority.advance()
            if after.generation != trust.generation:
                states = ", ".join(f"{root.id} is {root.state}" for root in after.roots)
                log.info("the rotation of the root goes on: %s", states)

    async def _trust(self) -> Trust:
        if self._keeping.authority() is None and not self._secret:
            return await self._authority.advance()
        return self._authority.look()

    # --- a root that somebody else made

    async def _take(self) -> None:
        try:
            given = await self._read()
        except BadCertificate as error:
            place = f"Secret {self._keeping.namespace}/{self._secret}"
            self._say_unusable(f"the root in {place} cannot be used, what was there before goes on: {error}")
            return
        self.handed_problem = ""
        what = await self._authority.hand_in(given)
        if what is not Handing.NONE:
            log.info("the root %s of Secret %s: %s", given.id, self._secret, what)

    def _say_unusable(self, sentence: str) -> None:
        if sentence != self.handed_problem:
            log.error("%s", sentence)
        self.handed_problem = sentence

    async def _read(self) -> Handed:
        path = f"/api/v1/namespaces/{self._keeping.namespace}/secrets/{self._secret}"
        found = await self._requests.find(path)
        if found is None:
            raise BadCertificate("there is no such Secret")
        try:
            data = {name: base64.b64decode(text, validate=True) for name, text in (found.get("data") or {}).items()}
        except binascii.Error as error:
            raise BadCertificate(f"it is not base64: {error}") from None
        return handed.read(data)

    # --- whom to believe

    async def _tell(self, trust: Trust) -> None:
        text = "".join(certificate.pem(root.certificate) for root in trust.roots)
        if text == self._told:
            return
        await self._requests.apply(
            f"/api/v1/namespaces/{self._keeping.namespace}/configmaps/{ROOTS_BUNDLE}",
            _bundle(self._keeping.namespace, text),
        )
        self._told = text


def _bundle(namespace: str, text: str) -> Object:
    metadata = {"name": ROOTS_BUNDLE, "namespace": namespace, "labels": PART}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {ROOTS_KEY: text}}
