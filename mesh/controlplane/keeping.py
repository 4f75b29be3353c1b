"""An authority's files (mesh.identity.files) as objects of a cluster.

    Secret seine-authority         authority.json: roots with keys and states, so no moment shows half a change
    ConfigMap seine-denied         denied.json: who is not believed for a while; people may edit it
    ConfigMaps seine-record-NODE   record.json: what each node says that it holds

All replicas read them every LOOK_SECONDS, and the first two anew before they decide anything; a change of the Secret is
a PUT with the version that was read, so of two who decide at once one fails and looks again. What is killed between two
steps finds the last one done, or not begun. MeshNodes would be the other place for records: but these every agent
watches, and a renewed certificate is no business of all nodes.
Denials are written by server-side apply: what people write at the same moment is theirs to see.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
from collections.abc import AsyncIterator, Hashable
from typing import TypeVar

import msgspec

from mesh.identity.authority import AuthorityError, Record
from mesh.identity.files import (
    AUTHORITY,
    DENIED,
    NODES,
    StoredAuthority,
    StoredDenial,
    StoredDenials,
    wrong_denials,
    wrong_version,
)
from mesh.kube.api.requests import CONFLICT, ApiFailure, Object, Requests

log = logging.getLogger("seine.controller")
SECRET, DENIALS, RECORD = "seine-authority", "seine-denied", "seine-record-"
RECORD_KEY = "record.json"
PART = {"app.kubernetes.io/part-of": "seine"}
RECORD_LABELS = PART | {"app.kubernetes.io/component": "record"}
RECORDS_QUERY = "labelSelector=app.kubernetes.io%2Fcomponent%3Drecord%2Capp.kubernetes.io%2Fpart-of%3Dseine"
LOOK_SECONDS = 2.0
RECORDS_SECONDS = 30.0  # where nobody waits for them

T = TypeVar("T")


class Keeping:
    record_seconds = 3600.0  # a write to etcd for each node; what it says is told with the node's next change anyway

    def __init__(self, requests: Requests, namespace: str) -> None:
        self._requests, self.namespace = requests, namespace
        self._turn = asyncio.Lock()
        self._secret: Object | None = None
        self._denied: Object | None = None
        self._records: list[Object] | None = None
        self._looked = False
        self._pending: dict[str, object] = {}  # what is to be written, by name
        self._writes = 0
        self.problem = ""  # why the last look failed

    @property
    def name(self) -> str:
        return f"Secret {self.namespace}/{SECRET}"

    def where(self, name: str) -> str:
        if name == AUTHORITY:
            return self.name
        if name == NODES:
            return f"ConfigMaps {self.namespace}/{RECORD}*"
        return f"ConfigMap {self.namespace}/{DENIALS if name == DENIED else name}"

    def damaged(self, name: str, why: str) -> AuthorityError:
        remedy = {
            AUTHORITY: "restore it from a copy; only if it is lost, delete it and the ConfigMaps "
            f"{RECORD}* to start over with a new root",
            DENIED: "mend it, or delete it if nobody is to be denied",
        }.get(name, "delete it: the node's agent has it written again, if there is one")
        return AuthorityError(f"{self.where(name)} {why}; it is left as it is: {remedy}", "damaged")

    # --- reading: what was there at the last look, and what is about to be written

    def stamp(self, name: str) -> Hashable:
        found = self._secret if name == AUTHORITY else self._denied
        return (found["metadata"]["resourceVersion"] if found else "", self._writes if name in self._pending else 0)

    def authority(self) -> StoredAuthority | None:
        if not self._looked:
            raise AuthorityError(f"{self.name} was not read yet{self.problem and ': '}{self.problem}", "unavailable")
        if isinstance(pending := self._pending.get(AUTHORITY), StoredAuthority):
            return pending
        if self._secret is None:
            return None
        try:
            text = base64.b64decode((self._secret.get("data") or {}).get(AUTHORITY, ""), validate=True)
        except binascii.Error as error:
            raise self.damaged(AUTHORITY, f"cannot be read: {error}") from None
        found = self._decode(AUTHORITY, text, StoredAuthority)
        if why := wrong_version(found):
            raise self.damaged(AUTHORITY, why)
        return found

    def denials(self) -> tuple[StoredDenial, ...]:
        if isinstance(pending := self._pending.get(DENIED), StoredDenials):
            return pending.denied
        text = ((self._denied or {}).get("data") or {}).get(DENIED, "")
        if not text.strip():
            return ()
        found = self._decode(DENIED, text.encode(), StoredDenials)
        if why := wrong_denials(found):
            raise self.damaged(DENIED, why)
        return found.denied

    def recorded(self) -> list[str]:
        """Nodes of which there is a record, readable or not."""
        return [each["metadata"]["name"].removeprefix(RECORD) for each in self._records or ()]

    def records(self) -> tuple[Record, ...]:
        return tuple(map(self._record, self._records or ()))

    def _record(self, found: Object) -> Record:
        text = str((found.get("data") or {}).get(RECORD_KEY, ""))
        return self._decode(found["metadata"]["name"], text.encode(), Record)

    def _decode(self, name: str, text: bytes, kind: type[T]) -> T:
        if not text.strip():
            raise self.damaged(name, "is empty")
        try:
            return msgspec.json.decode(text, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self.damaged(name, f"cannot be read: {error}") from None

    # --- looking

    async def run(self) -> None:
        """Look for ever."""
        left = 0.0
        while True:
            try:
                async with self._turn:
                    await self._look()
                    if left <= 0:
                        await self.look_at_records()
                        left = RECORDS_SECONDS
            except ApiFailure as failure:
                if str(failure) != self.problem:
                    log.warning("%s", failure)
                self.problem = str(failure)
            else:
                self.problem = ""
            left -= LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        secret = await self._requests.find(self._path("secrets", SECRET))
        self._denied = await self._requests.find(self._path("configmaps", DENIALS))
        self._secret, self._looked = secret, True

    async def look_at_records(self) -> None:
        found = await self._requests.ask("GET", f"{self._path('configmaps')}?{RECORDS_QUERY}")
        self._records = [each for each in found.get("items") or () if each["metadata"]["name"].startswith(RECORD)]

    def _path(self, plural: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{self.namespace}/{plural}{name and '/'}{name}"

    # --- writing

    def prepare(self) -> None:
        """The namespace is there: we are in it."""

    @contextlib.asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        async with self._turn:
            self._pending = {}
            try:
                await self._look()
                if self._records is None:
                    await self.look_at_records()
                yield
                for name, value in self._pending.items():
                    await self._write(name, value)
            except ApiFailure as failure:
                raise AuthorityError(f"{self.name}: {failure}", "unavailable") from None
            finally:
                self._pending = {}

    def write_authority(self, value: StoredAuthority) -> None:
        self._pend(AUTHORITY, value)

    def write_denials(self, denied: tuple[StoredDenial, ...]) -> None:
        self._pend(DENIED, StoredDenials(denied))

    def write_record(self, record: Record) -> None:
        self._pend(f"{NODES}/{record.node}", record)

    def _pend(self, name: str, value: object) -> None:
        self._pending[name] = value
        self._writes += 1

    async def _write(self, name: str, value: object) -> None:
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        if isinstance(value, Record):
            await self._apply(f"{RECORD}{value.node}", {RECORD_KEY: text}, RECORD_LABELS)
        elif name == DENIED:
            self._denied = await self._apply(DENIALS, {DENIED: text}, PART)
        else:
            self._secret = await self._replace(text)

    async def _apply(self, name: str, data: dict[str, str], labels: dict[str, str]) -> Object:
        metadata = {"name": name, "namespace": self.namespace, "labels": labels}
        made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        return await self._requests.apply(self._path("configmaps", name), made)

    async def _replace(self, text: str) -> Object:
        data = {AUTHORITY: base64.b64encode(text.encode()).decode()}
        try:
            if self._secret is not None:
                return await self._requests.replace(self._path("secrets", SECRET), self._secret | {"data": data})
            metadata = {"name": SECRET, "namespace": self.namespace, "labels": PART}
            made = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
            return await self._requests.create(self._path("secrets"), made)
        except ApiFailure as failure:
            if failure.code == CONFLICT:
                raise AuthorityError(f"{self.name} was changed by another replica meanwhile", "conflict") from None
            raise
