from __future__ import annotations

import pytest

from mesh.cli import judge
from mesh.cli.report import Result
from mesh.model import FailMode, Mtls, PodState
from mesh.observe.status import (
    AnnouncedStatus,
    CertificateStatus,
    CniStatus,
    PeerStatus,
    PodStatus,
    RootStatus,
    ShortcutStatus,
    SourceStatus,
    WorkerStatus,
)
from tests.unit.observe.values import MAIL_ID, WEB_ID, document, identity

UP = (WorkerStatus(worker=0, up=True), WorkerStatus(worker=1, up=True))


def failed(version: str = "0.1.0", **changed: object) -> dict[str, tuple[Result, str]]:
    checks = judge.agent(document(**({"workers": UP} | changed)), version)
    return {check.description: (check.result, check.error) for check in checks if check.result is not Result.SUCCESS}


def test_a_healthy_agent() -> None:
    assert failed() == {}


def test_a_worker_that_is_down() -> None:
    workers = (*UP, WorkerStatus(worker=2))
    assert failed(workers=workers) == {"workers are up": (Result.ERROR, "down: worker 2")}
    assert failed(workers=()) == {"workers are up": (Result.ERROR, "no worker was started")}


def test_objects_that_were_refused() -> None:
    found = failed(source=SourceStatus(errors=("a.yaml:1: bad", "b.yaml:2: worse")))
    assert found == {"all objects are accepted": (Result.ERROR, "a.yaml:1: bad\n    b.yaml:2: worse")}


def test_what_is_not_understood_is_a_warning() -> None:
    found = failed(source=SourceStatus(warnings=("a.yaml:1: odd",)))
    assert found == {"all that objects say is understood": (Result.WARNING, "a.yaml:1: odd")}


def test_other_nodes_that_know_an_old_list() -> None:
    why = "/etc/seine/meshnode-n1.yaml cannot be written: No space left on device"
    lost = PeerStatus(node="n2", workloads=3, missing_seconds=60.0, held_seconds=3600.0, problem="n2 is silent")
    found = failed(peers=(PeerStatus(node="n3", workloads=1), lost))
    assert found == {"the other nodes say who is in the mesh there": (Result.WARNING, "n2 is silent")}
    found = failed(announced=AnnouncedStatus(path="/etc/seine/meshnode-n1.yaml", problem=why))
    assert found == {"the other nodes are told who is in the mesh here": (Result.ERROR, why)}


def test_a_cni_chain_without_us_and_one_that_others_write() -> None:
    found = failed(cni=CniStatus(problem="there is no network yet"))
    assert found == {"new pods are announced by CNI": (Result.WARNING, "there is no network yet")}
    found = failed(cni=CniStatus(repairs=("x had lost our entry", "again")))
    description = "nobody takes our entry out of the CNI chain"
    assert found == {description: (Result.WARNING, "x had lost our entry\n    again")}
    assert failed(cni=None) == {}


def test_a_kubelet_that_is_not_found_matters_to_pods_that_refuse_others() -> None:
    closed = PodStatus(namespace="shop", name="a", state=PodState.CAPTURED, fail_mode=FailMode.CLOSED)
    strict = PodStatus(namespace="shop", name="b", state=PodState.CAPTURED, mtls=Mtls.STRICT)
    for pod in (closed, strict):
        found = failed(kubelet_problem="nobody listens", pods=(pod,))
        assert found == {"kubelet's probes reach closed and strict pods": (Result.WARNING, "nobody listens")}
    open_ = PodStatus(namespace="shop", name="c", state=PodState.CAPTURED)
    assert failed(kubelet_problem="nobody listens", pods=(open_,)) == {}


def test_a_short_cut_that_is_off_matters_to_those_who_ask_for_it() -> None:
    off = ShortcutStatus(detail="in its trial no message took it")
    asking = PodStatus(namespace="shop", name="web-1", state=PodState.CAPTURED, shortcut=True)
    assert failed(shortcut=off) == {}
    found = failed(shortcut=off, pods=(asking,))
    assert found == {"kernel short-cut is available": (Result.WARNING, "in its trial no message took it")}
    assert failed(shortcut=ShortcutStatus(available=True), pods=(asking,)) == {}


def test_another_version_is_a_warning() -> None:
    (found,) = failed(version="0.2.0").values()
    assert found == (Result.WARNING, "the agent is 0.1.0, this command 0.2.0")


@pytest.mark.parametrize(
    ("state", "result", "error"),
    [
        (PodState.CAPTURED, Result.SUCCESS, ""),
        (PodState.BYPASSING, Result.WARNING, "bypassing 3: why"),
        (PodState.OPEN, Result.ERROR, "open: why"),
        (PodState.CLOSED, Result.ERROR, "closed: why"),
        (PodState.LEAKING, Result.ERROR, "leaking: why"),
        (PodState.REFUSED, Result.ERROR, "refused: why"),
    ],
)
def test_every_state_of_a_pod(state: PodState, result: Result, error: str) -> None:
    pod = PodStatus(namespace="shop", name="web-1", state=state, bypassing=3, detail="why")
    (check,) = judge.pods(document(pods=(pod,)))
    assert (check.description, check.result, check.error) == ("shop/web-1 is captured", result, error)
    assert bool(check.hint) == (result is not Result.SUCCESS)


def doubts(**changed: object) -> dict[str, str]:
    checks = list(judge.identity(document(identity=identity(**changed))))
    assert {check.result for check in checks} <= {Result.SUCCESS, Result.WARNING}
    return {check.description: check.error for check in checks if check.result is Result.WARNING}


GOOD = CertificateStatus(name=WEB_ID, serial="aa", issued_at=980.0, not_after=1080.0)


def test_identities_that_are_well() -> None:
    assert doubts(certificates=(GOOD,)) == {}


def test_an_identity_without_a_certificate() -> None:
    assert doubts() == {"every identity has its certificate": f"{MAIL_ID}: connection refused"}


def test_an_authority_that_is_silent_for_long_is_a_warning_with_its_reason() -> None:
    assert doubts(certificates=(GOOD,), answered_at=401.0, problem="no route") == {}
    (found,) = doubts(certificates=(GOOD,), answered_at=399.0, problem="no route").values()
    assert found == "no answer for 10 min: no route"


@pytest.mark.parametrize("skew", [-31.0, 31.0])
def test_a_clock_that_is_half_a_minute_off(skew: float) -> None:
    assert doubts(certificates=(GOOD,), skew_seconds=skew) == {
        "authority and node agree on the time": "they differ by 31 s"
    }


def test_an_authority_that_never_answered_is_as_old_as_the_agent() -> None:
    (found,) = doubts(certificates=(GOOD,), answered_at=0.0, problem="no route").values()
    assert found == "no answer since the agent began: no route"
    old = document(identity=identity(certificates=(GOOD,), answered_at=0.0, problem="no route"), uptime_seconds=601.0)
    assert [check.error for check in judge.identity(old) if check.error] == ["no answer for 10 min: no route"]


@pytest.mark.parametrize(("issued", "late"), [(926.0, False), (924.0, True)])
def test_a_certificate_past_three_quarters_of_its_life(issued: float, late: bool) -> None:
    worn = CertificateStatus(name=WEB_ID, serial="aa", issued_at=issued, not_after=issued + 100, problem="refused")
    found = doubts(certificates=(worn,))
    assert bool(found) is late
    if late:
        assert found == {"certificates are renewed in time": f"{WEB_ID} ends in 0.0 h: refused"}


@pytest.mark.parametrize(
    ("state", "days", "warned"), [("issuing", 89, True), ("issuing", 91, False), ("leaving", 1, False)]
)
def test_a_root_that_ends_soon(state: str, days: int, warned: bool) -> None:
    root = RootStatus(id="aa00", state=state, not_after=1000.0 + days * 86400)
    assert doubts(certificates=(GOOD,), roots=(root,)) == (
        {"the root has time left": f"aa00 ends in {days} days"} if warned else {}
    )
