"""What `seine check` thinks of a running agent: its status document -> checks."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.cli.report import Check, Result
from mesh.model import FailMode, Mtls, PodState
from mesh.observe.status import PodStatus, RootStatus, StatusDocument

AGENT, IDENTITY, PODS = "seine-agent", "seine-identity", "seine-pods"
SILENT_SECONDS = 600.0  # an authority is asked twice a minute at least
SKEW_SECONDS = 30.0  # half of what certificates are dated back
RENEWED_BY = 0.75  # of its life; due at 0.4 to 0.6
ROOT_SECONDS_LEFT = 90 * 86400.0  # a rotation takes minutes, and somebody to begin it


def _check(category: str, description: str, error: str, bad: Result = Result.ERROR, hint: str = "") -> Check:
    """Good when there is no error."""
    return Check(category, description, bad if error else Result.SUCCESS, error, hint if error else "")


def agent(document: StatusDocument, cli_version: str) -> Iterator[Check]:
    yield Check(AGENT, "agent is running")
    down = [str(worker.worker) for worker in document.workers if not worker.up]
    none = "" if document.workers else "no worker was started"
    yield _check(AGENT, "workers are up", f"down: worker {', '.join(down)}" if down else none)
    errors = "\n    ".join(document.source.errors)
    yield _check(AGENT, "all objects are accepted", errors, hint="what was good of them before keeps serving")
    warnings = "\n    ".join(document.source.warnings)
    yield _check(AGENT, "all that objects say is understood", warnings, Result.WARNING, "it has no effect")
    if document.announced.path:
        hint = "they reach its pods as the last list says"
        yield _check(AGENT, "the other nodes are told who is in the mesh here", document.announced.problem, hint=hint)
    if document.peers:
        missing = "\n    ".join(peer.problem for peer in document.peers if peer.problem)
        hint = "its agent writes the list again; of a node that is gone for good, write one without workloads"
        yield _check(AGENT, "the other nodes say who is in the mesh there", missing, Result.WARNING, hint)
    if any(pod.fail_mode is FailMode.CLOSED or pod.mtls is Mtls.STRICT for pod in document.pods):
        hint = "probes of closed pods fail while no worker lives, those of strict pods always"
        problem = document.kubelet_problem
        yield _check(AGENT, "kubelet's probes reach closed and strict pods", problem, Result.WARNING, hint)
    if document.cni is not None:
        hint = "they are enrolled a moment after their start, and their first connections go direct"
        yield _check(AGENT, "new pods are announced by CNI", document.cni.problem, Result.WARNING, hint)
        taken = "\n    ".join(document.cni.repairs)
        hint = "whoever owns the configuration writes it without us: pods that start in that second are enrolled late"
        yield _check(AGENT, "nobody takes our entry out of the CNI chain", taken, Result.WARNING, hint)
    if any(pod.shortcut for pod in document.pods):
        off = "" if document.shortcut.available else document.shortcut.detail or "no reason given"
        hint = "the pods that ask for it use TCP"
        yield _check(AGENT, "kernel short-cut is available", off, Result.WARNING, hint)
    other = "" if document.version == cli_version else f"the agent is {document.version}, this command {cli_version}"
    yield _check(AGENT, "agent and command are of one version", other, Result.WARNING, "restart the agent")


def _unrenewed(document: StatusDocument) -> Iterator[str]:
    """Certificates of which more is gone than ought to be when they are renewed at half of their life."""
    for each in document.identity.certificates:
        life = each.not_after - each.issued_at
        if each.serial and document.taken_at > each.issued_at + RENEWED_BY * life:
            left = max(0.0, each.not_after - document.taken_at) / 3600
            yield f"{each.name} ends in {left:.1f} h" + (f": {each.problem}" if each.problem else "")


def identity(document: StatusDocument) -> Iterator[Check]:
    """Warnings all: what is captured is captured, and goes on with the certificates that are there."""
    found, now, bad = document.identity, document.taken_at, Result.WARNING
    silence = now - (found.answered_at or now - document.uptime_seconds)
    silent = f"no answer for {silence / 60:.0f} min: {found.problem}" if silence > SILENT_SECONDS else ""
    if found.problem and not found.answered_at and not silent:
        silent = f"no answer since the agent began: {found.problem}"
    hint = "certificates are used to their end; mend it before"
    yield _check(IDENTITY, f"authority answers ({found.authority})", silent, bad, hint)
    skew = f"they differ by {abs(found.skew_seconds):.0f} s" if abs(found.skew_seconds) > SKEW_SECONDS else ""
    believed = "peers do not believe certificates that begin in the future or have ended"
    yield _check(IDENTITY, "authority and node agree on the time", skew, bad, believed)
    missing = [f"{each.name}: {each.problem or 'on its way'}" for each in found.certificates if not each.serial]
    without = "their pods are captured and have no tunnels"
    yield _check(IDENTITY, "every identity has its certificate", "\n    ".join(missing), bad, without)
    late = "\n    ".join(_unrenewed(document))
    yield _check(IDENTITY, "certificates are renewed in time", late, bad, "the agent's log says why they are not")
    ending = [f"{r.id} ends in {(r.not_after - now) / 86400:.0f} days" for r in found.roots if _ends_soon(r, now)]
    yield _check(IDENTITY, "the root has time left", "\n    ".join(ending), bad, "`seine identity rotate` replaces it")


def _ends_soon(root: RootStatus, now: float) -> bool:
    return root.state == "issuing" and root.not_after - now < ROOT_SECONDS_LEFT


_HINT = {
    PodState.BYPASSING: "`seine drain NAMESPACE/POD` closes them, so that they come again, captured",
    PodState.OPEN: "no worker carries its new connections; the agent's log says why",
    PodState.CLOSED: "no worker carries its new connections; the agent's log says why",
    PodState.LEAKING: "something between its cgroup and the root keeps our hooks away; `seine dump` has the details",
    PodState.PENDING: "the first proof takes a second",
    PodState.REFUSED: "mend what the reason says, or take the pod out of the mesh",
}


def _pod(pod: PodStatus) -> Check:
    bad = Result.WARNING if pod.state in (PodState.BYPASSING, PodState.PENDING) else Result.ERROR
    count = f" {pod.bypassing}" if pod.state is PodState.BYPASSING else ""
    reason = "" if pod.state is PodState.CAPTURED else f"{pod.state}{count}" + (f": {pod.detail}" if pod.detail else "")
    return _check(PODS, f"{pod.namespace}/{pod.name} is captured", reason, bad, _HINT.get(pod.state, ""))


def pods(document: StatusDocument) -> Iterator[Check]:
    yield from map(_pod, document.pods)


def not_running(sentence: str) -> Check:
    """A warning only: `seine check` on a bare node asks whether Seine could run here."""
    return Check(AGENT, "agent is running", Result.WARNING, sentence, "start it with `seine agent --source DIR`")
