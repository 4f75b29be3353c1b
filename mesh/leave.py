"""Takes Seine off a node whose agent has ended: for `seine clean`, and for an agent whose installation is deleted.

Our entry in the CNI chain first, so that no new pod waits for an agent; then what the other nodes were told, so that
nobody is sent to tunnels that end; then the hooks, so that from then on nothing is captured that nobody would carry;
then the workers, whose connections end with them; then the routes to other nodes' pods; then what is left in the file
system.
"""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from mesh.arrivals import NOTE
from mesh.capture import KernelError, cgroup2_root, clean, pin_root
from mesh.cni import chain
from mesh.cni.chain import Paths
from mesh.config import AgentConfig, Switch, from_environment
from mesh.forward.supervisor import end_workers
from mesh.kube.publication import PublicationError, withdraw
from mesh.node_routes import leave

HELPERS_SECONDS_MAX = 5.0  # a killed agent's helper in the cgroup ends when it reads that its agent is gone


def remove(directory: Path) -> list[str]:
    """A sentence for each thing that was there. The caller holds the node's lock. Raises OSError and KernelError."""
    removed = [*_unchain(directory), *_unsay(directory)]
    removed += _unhook(directory.name)
    removed += [f"ended worker process {pid}" for pid in end_workers(directory)]
    removed += _forget(directory)  # now that nobody of ours can be cut off
    removed += leave(directory)
    removed += _remove_tree(directory)
    return removed


def uninstall(config: AgentConfig) -> list[str]:
    """Likewise, and with what outlives a mere `seine clean`: the keys of an authority that this node was itself.

    Workers of another pod end with that, and have their time to let connections go.
    """
    directory = config.run_dir
    removed = [*_unchain(directory), *_unhook(directory.name)]
    if config.external_workers is Switch.DISABLED:
        removed += [f"ended worker process {pid}" for pid in end_workers(directory)]
    removed += leave(directory)
    return [*removed, *_remove_tree(directory), *_remove_tree(config.identity_dir)]


def _unsay(directory: Path) -> list[str]:
    """What cannot be taken back is told, and keeps nothing else here."""
    try:
        path = withdraw(directory / "published", directory.name)
    except PublicationError as error:
        return [str(error)]
    return (
        [f"emptied {path}, by which the other nodes knew this one; once they have read it, it can go"] if path else []
    )


def _unchain(directory: Path) -> list[str]:
    """Where the agent said that it has been at work; after a reboot, where the settings say."""
    config = from_environment(AgentConfig, node=directory.name)
    told = Paths(Path(config.cni_conf), Path(config.cni_bin), config.cni_rules) if config.cni_conf else None
    paths = Paths.noted(directory / NOTE) or told
    return chain.remove(paths) if paths else []


def _unhook(node: str) -> list[str]:
    """Tries again while helpers of a dead agent are about to leave the cgroup."""
    deadline = time.monotonic() + HELPERS_SECONDS_MAX
    while True:
        try:
            return clean(node, pin_root(), cgroup2_root())
        except KernelError:
            if time.monotonic() > deadline:
                raise
        threading.Event().wait(0.05)


def _forget(directory: Path) -> list[str]:
    """A node that is gone must not hold up the rotation of a root."""
    note = directory / "identity"
    if not note.exists():
        return []
    record = Path(note.read_text().rstrip("\n"))
    if not record.exists():
        return []
    record.unlink()
    return [f"removed {record}, by which a rotation of the root would wait for this node"]


def _remove_tree(directory: Path) -> list[str]:
    if not directory.exists():
        return []
    shutil.rmtree(directory)
    return [f"removed {directory}"]
