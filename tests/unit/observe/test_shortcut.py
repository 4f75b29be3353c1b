from __future__ import annotations

from mesh.model import PodState
from mesh.observe.shortcut import Use, others, total, use
from mesh.observe.status import PodStatus

COUNTS = {
    "captured": 3,
    "shortcut_joined": 2,
    "shortcut_messages": 10,
    "shortcut_bytes": 1000,
    "shortcut_absent": 1,
    "shortcut_gone": 0,
}


def test_one_pods_use() -> None:
    assert use(COUNTS) == Use(sockets=2, messages=10, bytes=1000, fallbacks={"absent": 1, "gone": 0})
    assert use({}) == Use()
    assert others(COUNTS) == {"captured": 3}


def test_all_pods_together() -> None:
    pods = [PodStatus(namespace="n", name=name, state=PodState.CAPTURED, kernel=COUNTS) for name in "ab"]
    assert total(pods) == Use(sockets=4, messages=20, bytes=2000, fallbacks={"absent": 2, "gone": 0})
