"""What pods did with the kernel short-cut, out of the hooks' counters by reason (bpf/types.h).

Counted where it is sent: a pod's own sockets and, in its namespace, the workers'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mesh.model import Value
from mesh.observe.status import PodStatus

PREFIX = "shortcut_"
JOINED, MESSAGES, BYTES = f"{PREFIX}joined", f"{PREFIX}messages", f"{PREFIX}bytes"


class Use(Value, frozen=True):
    sockets: int = 0
    messages: int = 0
    bytes: int = 0
    fallbacks: Mapping[str, int] = {}  # reason -> directions that went to TCP for good, and sockets kept out


def use(kernel: Mapping[str, int]) -> Use:
    """Of one pod, from PodStatus.kernel."""
    mine = {name: count for name, count in kernel.items() if name.startswith(PREFIX)}
    sockets, messages, amount = (mine.pop(name, 0) for name in (JOINED, MESSAGES, BYTES))
    fallbacks = {name.removeprefix(PREFIX): count for name, count in mine.items()}
    return Use(sockets=sockets, messages=messages, bytes=amount, fallbacks=fallbacks)


def total(pods: Iterable[PodStatus]) -> Use:
    summed: dict[str, int] = {}
    for pod in pods:
        for name, count in pod.kernel.items():
            summed[name] = summed.get(name, 0) + count
    return use(summed)


def others(kernel: Mapping[str, int]) -> dict[str, int]:
    """The counters that are not about the short-cut."""
    return {name: count for name, count in kernel.items() if not name.startswith(PREFIX)}
