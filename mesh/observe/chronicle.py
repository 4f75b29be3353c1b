"""What became of a pod, told once: states over time -> occurrences, which Kubernetes users read as Events. Pure.

A state is told when it has lasted: pods that start pass through several, and what the next look mends was nothing to
tell. The same of the same pod is told again only after something else was.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.model import PodState, Value

SETTLE_SECONDS = 5.0  # a leak that is mended at once, a start; `seine status` shows those too


class Standing(Value):
    """A pod as it is now. `detail`: why it is not captured."""

    uid: str
    namespace: str
    name: str
    state: PodState
    detail: str = ""


class Occurrence(Value):
    uid: str
    namespace: str
    name: str
    reason: str
    message: str
    warning: bool = True


REASONS = {
    PodState.CAPTURED: ("Enrolled", "its connections are carried by the mesh"),
    PodState.BYPASSING: ("Enrolled", "its new connections are carried by the mesh"),
    PodState.LEAKING: ("Leaking", "its connections go past the mesh"),
    PodState.REFUSED: ("Refused", "it cannot be in the mesh"),
    PodState.OPEN: ("Unserved", "no worker lives on its node: its new connections go past the mesh"),
    PodState.CLOSED: ("Unserved", "no worker lives on its node: its new connections are refused"),
}  # not PENDING: it is about to become one of them


class Chronicle:
    def __init__(self) -> None:
        self._since: dict[str, tuple[str, float]] = {}  # by uid: the reason it has now, and since when
        self._told: dict[str, str] = {}

    def news(self, now: float, pods: Iterable[Standing]) -> list[Occurrence]:
        """What is to be told. Call `told` for each that was."""
        found = {pod.uid: pod for pod in pods if pod.state in REASONS}
        for gone in self._since.keys() - found.keys():
            del self._since[gone]
        for gone in self._told.keys() - found.keys():
            del self._told[gone]
        return [occurrence for pod in found.values() if (occurrence := self._look(now, pod)) is not None]

    def told(self, occurrence: Occurrence) -> None:
        self._told[occurrence.uid] = occurrence.reason

    def _look(self, now: float, pod: Standing) -> Occurrence | None:
        reason, sentence = REASONS[pod.state]
        former, since = self._since.get(pod.uid, ("", now))
        if former != reason:
            self._since[pod.uid] = (reason, now)
            return None
        if now - since < SETTLE_SECONDS or self._told.get(pod.uid) == reason:
            return None
        message = f"{sentence}: {pod.detail}" if pod.detail else sentence
        warning = reason != "Enrolled"
        return Occurrence(
            uid=pod.uid, namespace=pod.namespace, name=pod.name, reason=reason, message=message, warning=warning
        )
