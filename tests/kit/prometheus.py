"""The real Prometheus (Debian's) and promtool: one scrapes a target every second and answers queries, one judges text.

    with Prometheus(directory, "127.0.0.1:15020") as prometheus:
        prometheus.query('sum(rate(istio_requests_total[10s]))')

Knows nothing of a mesh. Storage and configuration are in the given directory; the process ends with the block.
"""

from __future__ import annotations

import json
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.kit import spawn
from tests.kit.wait import eventually

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: seine
  honor_labels: true
  static_configs: [{{targets: ["{target}"]}}]
"""
Labels = dict[str, str]


class Prometheus:
    def __init__(self, directory: Path, target: str) -> None:
        self.directory, self.target = directory, target
        self.address = f"127.0.0.1:{_free_port()}"
        self.process: spawn.Process | None = None

    def __enter__(self) -> Prometheus:
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "prometheus.yml"
        configuration.write_text(CONFIGURATION.format(target=self.target))
        command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={self.directory}/data"]
        command += [f"--web.listen-address={self.address}", "--query.lookback-delta=5s"]
        self.process = spawn.spawn(command, self.directory / "log")
        eventually(self._ready, f"Prometheus to be ready; its log is {self.directory}/log", 20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process is not None
        self.process.stop()

    def _ready(self) -> bool:
        assert self.process is not None
        if not self.process.alive:
            raise RuntimeError(f"Prometheus ended\n{self.process.output()}")
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=1):
                return True
        except (urllib.error.URLError, TimeoutError):
            return False

    def query(self, promql: str) -> list[tuple[Labels, float]]:
        """An instant query, answered as a vector."""
        parameters = urllib.parse.urlencode({"query": promql})
        with urllib.request.urlopen(f"http://{self.address}/api/v1/query?{parameters}", timeout=5) as answer:
            data = json.load(answer)["data"]
        return [(sample["metric"], float(sample["value"][1])) for sample in data["result"]]

    def value(self, promql: str) -> float:
        """The one number of a query; 0 when nothing matches."""
        found = self.query(promql)
        assert len(found) <= 1, f"{promql} has {len(found)} answers"
        return found[0][1] if found else 0.0

    def target_status(self) -> dict[str, Any]:
        """How the last scrape went: health, lastError ..."""
        with urllib.request.urlopen(f"http://{self.address}/api/v1/targets", timeout=5) as answer:
            targets: list[dict[str, Any]] = json.load(answer)["data"]["activeTargets"]
        return targets[0] if targets else {}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def complaints(text: bytes) -> list[str]:
    """What `promtool check metrics` says: an unreadable text raises, style is returned line by line."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=20, check=False)
    said = (done.stdout + done.stderr).decode()
    if done.returncode not in (0, 3):  # 3: readable, with style complaints
        raise ValueError(said)
    return said.splitlines()
