"""What of a pod's states is told, and how often."""

from __future__ import annotations

from mesh.model import PodState
from mesh.observe.chronicle import SETTLE_SECONDS, Chronicle, Standing


def standing(state: PodState, detail: str = "", uid: str = "u1") -> Standing:
    return Standing(uid=uid, namespace="shop", name="web", state=state, detail=detail)


class Teller:
    """One that tells everything at once."""

    def __init__(self) -> None:
        self.chronicle = Chronicle()
        self.now = 0.0

    def look(self, *pods: Standing, after: float = SETTLE_SECONDS) -> list[tuple[str, str]]:
        self.now += after
        found = self.chronicle.news(self.now, pods)
        for each in found:
            self.chronicle.told(each)
        return [(each.reason, each.message) for each in found]


def test_a_state_is_told_once_and_when_it_has_lasted():
    teller, pod = Teller(), standing(PodState.CAPTURED)
    assert teller.look(pod) == []
    assert teller.look(pod, after=1) == []
    assert teller.look(pod) == [("Enrolled", "its connections are carried by the mesh")]
    assert teller.look(pod) == []


def test_what_is_mended_at_once_is_not_told():
    teller, good, bad = Teller(), standing(PodState.CAPTURED), standing(PodState.LEAKING, "somebody is in our way")
    teller.look(good)
    assert len(teller.look(good)) == 1
    assert teller.look(bad, after=1) == []
    assert teller.look(good, after=1) == []
    assert teller.look(good) == []


def test_what_lasts_is_told_with_its_reason_and_its_end_too():
    teller, bad = Teller(), standing(PodState.LEAKING, "somebody is in our way")
    teller.look(bad)
    assert teller.look(bad) == [("Leaking", "its connections go past the mesh: somebody is in our way")]
    teller.look(standing(PodState.CAPTURED))
    assert [reason for reason, _ in teller.look(standing(PodState.CAPTURED))] == ["Enrolled"]
    teller.look(bad)
    assert [reason for reason, _ in teller.look(bad)] == ["Leaking"]


def test_only_what_was_told_counts_as_told():
    chronicle, pod = Chronicle(), standing(PodState.REFUSED, "hostNetwork")
    chronicle.news(0, [pod])
    assert chronicle.news(10, [pod]) == chronicle.news(20, [pod]) != []


def test_pods_that_are_gone_are_forgotten():
    teller, pod = Teller(), standing(PodState.CAPTURED)
    teller.look(pod)
    teller.look(pod)
    teller.look()
    assert teller.look(pod) == []
    assert len(teller.look(pod)) == 1
    assert teller.look(standing(PodState.PENDING, uid="u2")) == []
