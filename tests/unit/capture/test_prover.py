"""What answers prove, and what a pod's state is called."""

from __future__ import annotations

import pytest

from mesh.capture.prover import Proof, judge, state_of, worst
from mesh.model import FailMode, PodState

PROVEN = Proof(outbound_v4=True, outbound_v6=True, inbound=True, effective=True)
ONLY_V4 = Proof(outbound_v4=True, inbound=True, effective=True)
CGROUP_UNKNOWN = Proof(outbound_v4=True, inbound=True, detail="the pod's cgroup is unknown")
FROZEN = Proof(inbound=True, effective=True, detail="the probe gave no answer")
OUT_LEAKS = Proof(outbound_v4=False, inbound=True, effective=True)
V6_LEAKS = Proof(outbound_v4=True, outbound_v6=False, inbound=True, effective=True)
IN_LEAKS = Proof(outbound_v4=True, inbound=False, effective=True)
NO_HOOKS = Proof(outbound_v4=True, outbound_v6=True, inbound=True, effective=False)
UNTRIED = Proof(detail="the probe could not run")
OPEN, CLOSED = FailMode.OPEN, FailMode.CLOSED


@pytest.mark.parametrize(
    ("proof", "alive", "mode", "bypassing", "state"),
    [
        (PROVEN, True, OPEN, 0, PodState.CAPTURED),
        (PROVEN, True, CLOSED, 0, PodState.CAPTURED),
        (PROVEN, True, OPEN, 3, PodState.BYPASSING),
        (ONLY_V4, True, OPEN, 0, PodState.CAPTURED),
        (CGROUP_UNKNOWN, True, OPEN, 0, PodState.CAPTURED),
        (FROZEN, True, OPEN, 0, PodState.CAPTURED),
        (OUT_LEAKS, True, OPEN, 0, PodState.LEAKING),
        (OUT_LEAKS, True, CLOSED, 3, PodState.LEAKING),
        (V6_LEAKS, True, OPEN, 0, PodState.LEAKING),
        (IN_LEAKS, True, OPEN, 0, PodState.LEAKING),
        (UNTRIED, True, OPEN, 0, PodState.LEAKING),
        (NO_HOOKS, True, OPEN, 0, PodState.LEAKING),
        # no living worker: nothing answers, and the fail rule is the state,
        (OUT_LEAKS, False, OPEN, 0, PodState.OPEN),
        (OUT_LEAKS, False, OPEN, 3, PodState.OPEN),
        (OUT_LEAKS, False, CLOSED, 0, PodState.CLOSED),
        (PROVEN, False, CLOSED, 0, PodState.CLOSED),
        # unless the hooks that enforce the rule are gone
        (NO_HOOKS, False, OPEN, 0, PodState.LEAKING),
        (NO_HOOKS, False, CLOSED, 0, PodState.LEAKING),
    ],
)
def test_state_of_a_pod(proof, alive, mode, bypassing, state):
    assert state_of(proof, alive, mode, bypassing) is state


@pytest.mark.parametrize(
    ("answer", "lively", "verdict", "sentence"),
    [
        ("heard seine n1", False, True, ""),
        ("heard seine n10", False, False, "somebody else: 'seine n10'"),
        ("heard HTTP/1.1 400 Bad Request", False, False, "somebody else"),
        ("heard ", False, None, "no worker greeted"),
        ("silent timed out", False, None, "no worker greeted"),
        ("silent timed out", True, False, "no worker greeted"),
        ("refused Connection refused", False, False, "reaches no worker: Connection refused"),
        ("refused Network is unreachable", False, False, "reaches no worker: Network is unreachable"),
        ("untried Too many open files", False, None, "could not be tried: Too many open files"),
    ],
)
def test_what_an_answer_proves(answer, lively, verdict, sentence):
    found = judge("240.0.0.1", answer, "n1", lively)
    assert found[0] is verdict
    assert sentence in found[1]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [([], None), ([True], True), ([True, None], None), ([None, False], False), ([True, False], False)],
)
def test_the_worst_address_counts(verdicts, expected):
    assert worst(verdicts) is expected
