"""Text in a ConfigMap, asked for when it is needed and kept until it does not help any more."""

from __future__ import annotations

from mesh.kube.api.requests import Requests


class Text:
    """`key` in the ConfigMap `name`. `read` raises ApiFailure."""

    def __init__(self, requests: Requests, namespace: str, name: str, key: str) -> None:
        self._requests, self._key = requests, key
        self._path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
        self._known = ""

    async def read(self) -> str:
        if not self._known:
            found = await self._requests.get(self._path)
            self._known = str((found.get("data") or {}).get(self._key, ""))
        return self._known

    def forget(self) -> None:
        self._known = ""
