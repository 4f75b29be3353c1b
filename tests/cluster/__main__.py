"""`./dev cluster build|up|down|status`: a cluster to look at, kept by a process of its own until `down` ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster import binaries
from tests.cluster.cluster import Cluster
from tests.kit import leftovers
from tests.kit.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
STATE, LOG = ROOT / ".cache/cluster.json", ROOT / ".cache/cluster.log"
UP_SECONDS, DOWN_SECONDS = 180.0, 60.0


def kept() -> dict[str, str]:
    """What the keeper wrote when its cluster was ready; empty when none runs."""
    try:
        state: dict[str, str] = json.loads(STATE.read_text())
        command = Path(f"/proc/{state['pid']}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return state if b"tests.cluster" in command else {}


def keep() -> None:
    """Runs until it is told to end."""
    with Cluster("dev") as cluster:
        state = {"pid": str(os.getpid()), "kubeconfig": str(cluster.kubeconfig)}
        STATE.write_text(json.dumps(state))
        try:
            while True:
                signal.pause()
        except KeyboardInterrupt:
            STATE.unlink(missing_ok=True)


def up() -> int:
    binaries.ensure()
    if not kept():
        leftovers.sweep()
        print("starting etcd, the API server, its controllers, two nodes ...", flush=True)
        with LOG.open("w") as log:
            command = [sys.executable, "-m", "tests.cluster", "keep"]
            keeper = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )
        eventually(lambda: kept() or keeper.poll() is not None, "the cluster", UP_SECONDS)
    return status()


def down() -> int:
    state = kept()
    if not state:
        print("no cluster of this checkout runs")
        return 0
    os.kill(int(state["pid"]), signal.SIGTERM)
    eventually(lambda: not Path(f"/proc/{state['pid']}").exists(), "the cluster to be gone", DOWN_SECONDS)
    print("gone")
    return 0


def status() -> int:
    state = kept()
    if not state:
        print(f"no cluster of this checkout runs; what the last one said: {LOG}")
        return 1
    kubectl = binaries.folder() / "kubectl"
    print(f"export KUBECONFIG={state['kubeconfig']} PATH={kubectl.parent}:$PATH", flush=True)
    config = f"--kubeconfig={state['kubeconfig']}"
    return subprocess.run([kubectl, config, "get", "nodes,pods", "-A", "-o", "wide"], check=False).returncode


def build() -> int:
    print(binaries.ensure())
    return 0


if __name__ == "__main__":
    commands = {"build": build, "up": up, "down": down, "status": status, "keep": keep}
    sys.exit(commands[sys.argv[1]]())
