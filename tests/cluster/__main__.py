"""`./dev cluster build|up|down|status`: a cluster to look at, kept by a process of its own until `down` ends it.

It has Seine in it and a shop of four services that visit each other (deploy/demo/kubernetes).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from deploy.image import build as image
from tests.cluster import binaries, mesh
from tests.cluster.cluster import Cluster
from tests.kit import leftovers
from tests.kit.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
STATE, LOG = ROOT / ".cache/cluster.json", ROOT / ".cache/cluster.log"
SHOP = ROOT / "deploy/demo/kubernetes"
SERVICES = ("front", "catalog", "prices", "visitor")
UP_SECONDS, DOWN_SECONDS = 300.0, 60.0  # a minute, and five seconds, on an idle machine


USE = """
export KUBECONFIG={kubeconfig} PATH={programs}:$PATH
kubectl get pods -n shop                                    # the shop: each pod is in the mesh
kubectl exec -n seine-system ds/seine-agent -- seine status # who asks whom, on one of the nodes
kubectl logs -n shop deploy/visitor --tail=1                # how its requests went
curl http://{node}:30080/                                   # the shop from outside
./dev cluster down                                          # leaves nothing
"""


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
        mesh.load(cluster)
        mesh.install(cluster)
        cluster.kubectl("apply", "--server-side", "-k", str(SHOP))
        for name in SERVICES:
            cluster.wait_rollout(f"deployment/{name}", "shop", mesh.READY_SECONDS)
        node = next(iter(cluster.nodes.values())).machine.address
        state = {"pid": str(os.getpid()), "kubeconfig": str(cluster.kubeconfig), "node": node}
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
        print("making the image ...", flush=True)
        for layer in (image.distribution, image.requirements, image.seine):
            layer()
        print("starting etcd, the API server, its controllers, two nodes, the mesh, a shop ...", flush=True)
        with LOG.open("w") as log:
            command = [sys.executable, "-m", "tests.cluster", "keep"]
            keeper = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )
        eventually(lambda: kept() or keeper.poll() is not None, "the cluster", UP_SECONDS)
        if not kept():
            print("\n".join(LOG.read_text().splitlines()[-10:]))
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
    config = f"--kubeconfig={state['kubeconfig']}"
    shown = subprocess.run([kubectl, config, "get", "nodes,pods", "-A", "-o", "wide"], check=False).returncode
    print(USE.format(**state, programs=kubectl.parent))
    return shown


def build() -> int:
    print(binaries.ensure())
    print(binaries.helm())
    return 0


if __name__ == "__main__":
    commands = {"build": build, "up": up, "down": down, "status": status, "keep": keep}
    sys.exit(commands[sys.argv[1]]())
