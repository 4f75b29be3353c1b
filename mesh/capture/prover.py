"""Proof, by trying, that a pod's connections are captured; and what to call the pod's state.

Outbound: a process in the pod's own cgroup *and* namespace connects to the canary addresses, which no host ever
answers, and must hear the greeting of a worker of this node. Inbound: the agent connects to the pod's own canary port.
The cgroup matters: hooks run by cgroup, the namespace is only their filter, so a probe from elsewhere would say
"captured" while the pod's own connections go direct. The kernel must also list our programs as effective there.

The process is forked by the socket factory's helper (2 ms of a core and up to 9 ms of waiting for the cgroup; a new
interpreter would take 20 ms of a core). It is never the helper itself: a pod's freezer, limits and OOM killer reach
whoever is in its cgroup. It ends a moment after its answer: until then the cgroup is not empty and cannot be removed,
which container runtimes try again. Bias: one part proven false is a leak; a part that could not be tried (None) is told
in `detail` and, while nothing else is proven, counts as a leak too.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from pathlib import Path

from mesh.capture import helper
from mesh.capture.objects import KernelError
from mesh.capture.sockets import SocketFactory
from mesh.config import CANARY_ADDRESSES, CANARY_PORT
from mesh.model import FailMode, Pod, PodState, Value

INBOUND_SECONDS = 1.0  # one hop over a veth; connection requests are sent again after 1 s
HELPER_SECONDS = helper.PROBE_LIFE_SECONDS + 1.0  # by then the kernel has ended a probe that hangs
ATTEMPTS = 2  # a worker that is being replaced must not make a pod look like leaking


class Proof(Value, frozen=True):
    """True: proven. False: it went elsewhere. None: does not apply, or could not be tried; `detail` says which."""

    outbound_v4: bool | None = None
    outbound_v6: bool | None = None
    inbound: bool | None = None
    effective: bool | None = None
    detail: str = ""

    @property
    def refuted(self) -> bool:
        return False in (self.outbound_v4, self.outbound_v6, self.inbound, self.effective)

    @property
    def good(self) -> bool:
        return not self.refuted and True in (self.outbound_v4, self.outbound_v6, self.inbound)


Part = tuple[bool | None, str]  # the verdict, and a sentence when it is not True


def state_of(proof: Proof, alive: bool, mode: FailMode, bypassing: int) -> PodState:
    """The pod's state in one word. `alive`: its listeners exist and some worker's heart beats.

    Hooks that are not in effect come first, because then not even the fail rule holds. Without a living worker
    nothing can be heard, and the fail rule is the state.
    """
    if proof.effective is False:
        return PodState.LEAKING
    if not alive:
        return PodState.OPEN if mode is FailMode.OPEN else PodState.CLOSED
    if not proof.good:
        return PodState.LEAKING
    return PodState.BYPASSING if bypassing else PodState.CAPTURED


async def prove(pod: Pod, *, node: str, factory: SocketFactory, effective: Callable[[Path], bool]) -> Proof:
    """Try the pod's capture; within 8 s whatever happens, 20 ms when all is well. Raises nothing."""
    proof = Proof()
    for _ in range(ATTEMPTS):
        proof = await _attempt(pod, node, factory, effective)
        if not proof.refuted:
            break
    return proof


async def _attempt(pod: Pod, node: str, factory: SocketFactory, effective: Callable[[Path], bool]) -> Proof:
    addresses = pod.workload.addresses
    versions = {_version(address) for address in addresses}
    canaries = [canary for canary in CANARY_ADDRESSES if _version(canary) in versions]
    heard, knocks = await asyncio.gather(_dial(pod, canaries, factory), asyncio.gather(*map(_knock, addresses)))
    outbound = {_version(canary): judge(canary, answer, node) for canary, answer in zip(canaries, heard, strict=True)}
    lively = any(verdict for verdict, _ in outbound.values())
    inbound = [judge(address, answer, node, lively) for address, answer in zip(addresses, knocks, strict=True)]
    hooks = _hooks(pod, effective)
    said = [sentence for _, sentence in (*outbound.values(), *inbound, hooks)]
    return Proof(
        outbound_v4=outbound.get(4, (None, ""))[0],
        outbound_v6=outbound.get(6, (None, ""))[0],
        inbound=worst([verdict for verdict, _ in inbound]),
        effective=hooks[0],
        detail="; ".join(dict.fromkeys(sentence for sentence in said if sentence)),
    )


def judge(address: str, answer: str, node: str, lively: bool = False) -> Part:
    """What an answer (see SocketFactory.converse) proves about connections to an address.

    `lively`: a worker has greeted elsewhere meanwhile, so silence here is somebody else's.
    """
    word, _, text = answer.partition(" ")
    if word == "heard" and text == greeting(node):
        return True, ""
    if word == "heard" and text:
        return False, f"a connection to {address} is answered by somebody else: {text!r}"
    if word in ("heard", "silent"):
        return (False if lively else None), f"a connection to {address} was made, but no worker greeted"
    if word == "refused":
        return False, f"a connection to {address} reaches no worker: {text}"
    return None, f"{address} could not be tried: {text}"


def greeting(node: str) -> str:
    """What a worker says first on a canary connection, without the newline."""
    return f"seine {node}"


def worst(verdicts: list[bool | None]) -> bool | None:
    """False before None before True; None of nothing."""
    return False if False in verdicts else None if None in verdicts or not verdicts else True


async def _dial(pod: Pod, canaries: list[str], factory: SocketFactory) -> list[str]:
    """What a process of the pod hears from each canary address."""
    cgroup = pod.cgroup or str(factory.cgroup.parent)
    try:
        async with asyncio.timeout(HELPER_SECONDS):
            return await factory.converse(cgroup, pod.netns, CANARY_PORT, canaries) if canaries else []
    except TimeoutError:
        reason = "the probe in the pod's cgroup gave no answer; is the cgroup frozen, or out of memory?"
    except OSError as error:
        reason = error.strerror or str(error)
    return [f"untried {reason}"] * len(canaries)


async def _knock(address: str) -> str:
    """What the agent hears from the pod's own canary port, in the words of SocketFactory.converse."""
    word = "untried"  # no answer at all: the agent may have no way there
    try:
        async with asyncio.timeout(INBOUND_SECONDS):
            reader, writer = await asyncio.open_connection(address, CANARY_PORT)
            word = "silent"
            try:
                return "heard " + (await reader.readline()).decode("ascii", "replace").strip()
            finally:
                writer.close()
    except TimeoutError:
        return f"{word} nothing came within {INBOUND_SECONDS:g} s"
    except (OSError, ValueError) as error:  # ValueError: a line without an end
        refused = isinstance(error, ConnectionError) and word == "untried"
        return f"{'refused' if refused else word} {getattr(error, 'strerror', None) or error}"


def _hooks(pod: Pod, effective: Callable[[Path], bool]) -> Part:
    if not pod.cgroup:
        return None, "the pod's cgroup is unknown: tried as a process of the root cgroup, not as one of the pod's own"
    try:
        good = effective(Path(pod.cgroup))
    except (OSError, KernelError) as error:
        return None, f"the hooks of {pod.cgroup} cannot be listed: {error}"
    return good, "" if good else f"Seine's hooks are not in effect for {pod.cgroup}"


def _version(address: str) -> int:
    return ipaddress.ip_address(address).version
