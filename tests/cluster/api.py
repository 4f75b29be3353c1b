"""The API server, asked as administrator: what tests look at and wait for. Not the product's client (mesh/kube/).

A connection per question, for questions are rare and a test may have restarted the server meanwhile.
"""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 10.0
Object = dict[str, Any]


class ApiError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    def __init__(self, host: str, port: int, authority: Path, certificate: Path, key: Path) -> None:
        self._host, self._port = host, port
        self._tls = ssl.create_default_context(cafile=str(authority))
        self._tls.load_cert_chain(certificate, key)

    def request(self, method: str, path: str, body: object = None, kind: str = "application/json") -> bytes:
        """The body of a successful answer. OSError when nobody answers, ApiError for what the server refuses."""
        connection = self.connect()
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": kind, "Accept": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise ApiError(answer.status, text.decode(errors="replace"))
        return text

    def connect(self) -> http.client.HTTPSConnection:
        """For whoever asks much. It is made when it is first used."""
        return http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=TIMEOUT_SECONDS)

    def get(self, path: str) -> Object:
        found: Object = json.loads(self.request("GET", path))
        return found

    def items(self, path: str) -> list[Object]:
        found: list[Object] = self.get(path)["items"]
        return found

    def create(self, path: str, body: Object) -> Object:
        made: Object = json.loads(self.request("POST", path, body))
        return made

    def merge(self, path: str, body: Object) -> Object:
        """A merge patch: null removes."""
        made: Object = json.loads(self.request("PATCH", path, body, "application/merge-patch+json"))
        return made

    def delete(self, path: str, grace_seconds: int | None = None) -> None:
        """Nothing when it is gone."""
        options = {"gracePeriodSeconds": grace_seconds} if grace_seconds is not None else {}
        try:
            self.request("DELETE", path, options)
        except ApiError as error:
            if error.status != 404:
                raise

    def is_ready(self) -> bool:
        try:
            return self.request("GET", "/readyz") == b"ok"
        except (OSError, ApiError):
            return False
