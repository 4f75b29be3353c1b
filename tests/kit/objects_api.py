"""An API server in memory, for what asks by mesh.kube.api.requests: objects by path, versions, conflicts.

Only what Requests needs; real servers do far more, and tests/cluster asks one. `down`: nobody answers.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from mesh.kube.api.access import Credentials
from mesh.kube.api.requests import CONFLICT, MISSING, ApiFailure, Requests

Object = dict[str, Any]


class ObjectsApi:
    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}  # by path
        self.version = 1
        self.down = False
        self.asked: list[str] = []  # "METHOD PATH"
        self.answers: dict[str, Callable[[Object], Object]] = {}  # by path: what a POST there is answered
        self.before_write: Callable[[], None] = lambda: None

    def put(self, path: str, made: Object) -> Object:
        self.version += 1
        made = copy.deepcopy(made)
        made.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        self.objects[path] = made
        return copy.deepcopy(made)


class Nowhere:
    name = "nowhere"

    async def credentials(self) -> Credentials:
        raise AssertionError("no socket is needed")

    def forget(self) -> None:
        """Nothing is kept."""


class FakeRequests(Requests):
    """One client of it."""

    def __init__(self, api: ObjectsApi) -> None:
        super().__init__(Nowhere(), "test")
        self.api = api

    async def ask(self, method: str, target: str, body: Object | None = None, kind: str = "application/json") -> Object:
        path, _, query = target.partition("?")
        self.api.asked.append(f"{method} {path}")
        if self.api.down:
            raise ApiFailure("nobody answers")
        if method == "GET":
            return self._get(path, query)
        self.api.before_write()
        if method == "DELETE":
            self._found(path)
            return self.api.objects.pop(path)
        assert body is not None
        if method == "POST":
            if path in self.api.answers:
                return self.api.answers[path](body)
            path = f"{path}/{body['metadata']['name']}"
            if path in self.api.objects:
                raise ApiFailure("it is there already", CONFLICT)
        if method == "PUT" and self._found(path)["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ApiFailure("it has another version", CONFLICT)
        if method == "PATCH":
            body = self.api.objects.get(path, {}) | body
        return self.api.put(path, body)

    def _get(self, path: str, query: str) -> Object:
        below = [copy.deepcopy(each) for key, each in self.api.objects.items() if key.rpartition("/")[0] == path]
        if below or query:
            return {"items": below}
        return copy.deepcopy(self._found(path))

    def _found(self, path: str) -> Object:
        if path not in self.api.objects:
            raise ApiFailure(f"there is no {path}", MISSING)
        return self.api.objects[path]
