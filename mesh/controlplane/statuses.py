"""Keeps the statuses of AuthorizationPolicies, while this replica leads; what they say, see verdicts.

A policy is looked at when it changes, and all of them every `status_seconds`, for pods come and go. Whether a selector
finds a pod is asked of the API server, one pod at most: no controller of ours holds all pods of a cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec

from mesh.config import ApiConfig, ControllerConfig
from mesh.controlplane import verdicts
from mesh.kube import objects
from mesh.kube.api.access import Access
from mesh.kube.api.client import Session
from mesh.kube.api.decode import Began, Broken, Complete, Event, Key, Put, Removed
from mesh.kube.api.requests import MISSING, ApiFailure, Requests
from mesh.kube.api.watching import Watcher, kind_of

log = logging.getLogger("seine.controller")
KIND = "AuthorizationPolicy"
LOOK_SECONDS = 0.5
PAUSE_SECONDS = 5.0  # after a failure


class Statuses:
    def __init__(self, access: Access, requests: Requests, config: ControllerConfig, leads: Callable[[], bool]) -> None:
        self._requests, self._leads = requests, leads
        self._every, self._root_namespace = config.status_seconds, config.root_namespace
        api = ApiConfig()
        session = Session(access, api.silence_seconds)
        self.watcher = Watcher(kind_of(KIND), session, api, asyncio.sleep, random.random)
        self._known: dict[Key, objects.AuthorizationPolicy] = {}
        self._fresh: set[Key] | None = None  # keys that a list has brought so far
        self._dirty: set[Key] = set()
        self._swept = -self._every
        self.written = 0
        self.failures = 0
        self.refused: set[Key] = set()  # policies that agents refuse now

    # --- what there is

    async def follow(self) -> None:
        async with contextlib.aclosing(self.watcher.forever()) as events:
            async for event in events:
                self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Began():
                self._fresh = set()
            case Put(key=key, object=found):
                assert isinstance(found, objects.AuthorizationPolicy)
                self._known[key] = found
                self._touch(key)
            case Broken(key=key) | Removed(key=key):  # broken: its definition is not ours; agents say so
                self._known.pop(key, None)
                self._dirty.add(key)
            case Complete():
                if self._fresh is not None:
                    self._known = {key: found for key, found in self._known.items() if key in self._fresh}
                self._fresh = None

    def _touch(self, key: Key) -> None:
        self._dirty.add(key)
        if self._fresh is not None:
            self._fresh.add(key)

    # --- what is said

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if not self._leads():
                self._swept = -self._every
                continue
            now = asyncio.get_running_loop().time()
            if now - self._swept >= self._every:
                self._swept, self._dirty = now, set(self._known)
            try:
                while self._dirty:
                    await self._say(next(iter(self._dirty)))
            except ApiFailure as failure:
                self.failures += 1
                log.warning("statuses of policies: %s", failure)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _say(self, key: Key) -> None:
        """The key stays dirty when that fails."""
        policy = self._known.get(key)
        if policy is None:
            self.refused.discard(key)
        else:
            found = verdicts.judged(policy)
            (self.refused.add if isinstance(found, str) else self.refused.discard)(key)
            selects = not isinstance(found, str) and await self._selects(
                verdicts.pods_path(found, self._root_namespace)
            )
            now = verdicts.verdict(found, selects, policy.metadata.generation)
            moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            if (due := verdicts.due(policy.status.conditions or (), now, moment)) is not None:
                await self._write(key, due)
        if self._known.get(key) is policy:
            self._dirty.discard(key)

    async def _selects(self, path: str) -> bool:
        return bool((await self._requests.ask("GET", path)).get("items"))

    async def _write(self, key: Key, conditions: verdicts.Conditions) -> None:
        namespace, name = key
        version = objects.KINDS[KIND][0]
        path = f"/apis/{version}/namespaces/{quote(namespace)}/authorizationpolicies/{quote(name)}/status"
        status = {"conditions": msgspec.to_builtins(conditions)}
        metadata = {"name": name, "namespace": namespace}
        try:
            await self._requests.apply(
                path, {"apiVersion": version, "kind": KIND, "metadata": metadata, "status": status}
            )
        except ApiFailure as failure:
            if failure.code != MISSING:  # it was removed meanwhile
                raise
        else:
            self.written += 1

    def close(self) -> None:
        self.watcher.close()
