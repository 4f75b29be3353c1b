"""A cluster as its administrator asks it, by kubectl: one that we started (cluster.py), or any other (`Abroad`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from tests.cluster.api import Object

KUBECTL_SECONDS = 60.0


class Asked(Protocol):
    """What tests ask of an API server."""

    def get(self, path: str) -> Object: ...
    def items(self, path: str) -> list[Object]: ...
    def create(self, path: str, body: Object) -> Object: ...
    def delete(self, path: str, grace_seconds: int | None = None) -> None: ...


class Kubernetes:
    """`nodes`: by name."""

    nodes: dict[str, Any]
    program: Path
    home: Path  # where kubectl caches

    @property
    def api(self) -> Asked:
        raise NotImplementedError

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        raise NotImplementedError

    def kubectl(self, *arguments: str, text: str = "", timeout: float = KUBECTL_SECONDS) -> str:
        """What it prints; RuntimeError with its own words when it fails. `text` is its standard input."""
        done = subprocess.run(
            [self.program, f"--kubeconfig={self.kubeconfig}", *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "HOME": str(self.home)},
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def apply(self, text: str) -> None:
        """YAML or JSON, created or changed by server-side apply."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=text)

    def pods(self, namespace: str, selector: str = "") -> list[Object]:
        query = f"?labelSelector={selector}" if selector else ""
        return self.api.items(f"/api/v1/namespaces/{namespace}/pods{query}")

    def exec(self, pod: str, *command: str, namespace: str = "default") -> str:
        return self.kubectl("exec", "-n", namespace, pod, "--", *command)

    def wait_rollout(self, kind_and_name: str, namespace: str = "default", timeout: float = KUBECTL_SECONDS) -> None:
        limit = f"--timeout={timeout:g}s"
        self.kubectl("rollout", "status", "-n", namespace, kind_and_name, limit, timeout=timeout + 5)


class Abroad(Kubernetes):
    """Somebody's cluster, whose nodes have Seine's image or can pull it."""

    def __init__(self, kubeconfig: str) -> None:
        program = shutil.which("kubectl")
        if program is None:
            raise RuntimeError("kubectl is not in the PATH")
        self.program, self.home, self._kubeconfig = Path(program), Path.home(), Path(kubeconfig)
        self.nodes = {each["metadata"]["name"]: each for each in self.api.items("/api/v1/nodes")}

    @property
    def kubeconfig(self) -> Path:
        return self._kubeconfig

    @property
    def api(self) -> Asked:
        return _ByKubectl(self)

    def load(self, archives: Iterable[Path]) -> None:
        """Nothing: they have it."""


class _ByKubectl:
    def __init__(self, cluster: Kubernetes) -> None:
        self._cluster = cluster

    def get(self, path: str) -> Object:
        found: Object = json.loads(self._cluster.kubectl("get", "--raw", path))
        return found

    def items(self, path: str) -> list[Object]:
        found: list[Object] = self.get(path)["items"]
        return found

    def create(self, path: str, body: Object) -> Object:
        made: Object = json.loads(self._cluster.kubectl("create", "--raw", path, "-f", "-", text=json.dumps(body)))
        return made

    def delete(self, path: str, grace_seconds: int | None = None) -> None:
        self._cluster.kubectl("delete", "--raw", path)
