"""One root takes the place of another in three steps, none of which may cut a connection. Pure.

    rotate    a new root joins: believed, not issuing
    switch    it issues, and the old one is leaving, once every node that matters believes it
    remove    the old one goes, once no node that matters has a certificate from it

A node matters while it holds a certificate that has not ended: one without can neither be cut off nor cut off others.
So a node that died with an old record blocks a step for as long as its certificates live, and no longer. A node that
others see in the mesh, and that never said anything, blocks it until it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from mesh.identity.authority import Record, Root, RootState
from mesh.model import Value

SKEW_SECONDS = 60.0  # between the clock of who issued, whoever checks, and ours


class Step(StrEnum):
    NONE = "none"
    SWITCH = "switch"
    REMOVE = "remove"


class Node(Value, frozen=True):
    """One node, as seen by whoever rotates. `obstacle`: a sentence, why the step would cut it off; empty: ready."""

    node: str
    trusts: tuple[str, ...] = ()
    issued_by: tuple[str, ...] = ()
    certificates: int = 0
    until: float = 0.0
    written_at: float = 0.0
    obstacle: str = ""


def in_state(roots: Sequence[Root], state: RootState) -> Root | None:
    return next((root for root in roots if root.state is state), None)


def problem(roots: Sequence[Root]) -> str:
    """Why these cannot be the roots of one moment; empty: they can."""
    states = [root.state for root in roots]
    if states.count(RootState.ISSUING) != 1:
        return f"{states.count(RootState.ISSUING)} roots issue, where it must be one"
    if len(states) > 2 or len(set(states)) != len(states):
        return "besides the root that issues there may be one that joins or one that leaves"
    if len({root.id for root in roots}) != len(roots):
        return "one root is there twice"
    return ""


def next_step(roots: Sequence[Root]) -> Step:
    if in_state(roots, RootState.JOINING):
        return Step.SWITCH
    return Step.REMOVE if in_state(roots, RootState.LEAVING) else Step.NONE


def advance(roots: Sequence[Root], generation: int) -> tuple[Root, ...]:
    """The roots after the next step; `generation` is that of the result."""

    def to(root: Root, state: RootState) -> Root:
        return Root(id=root.id, certificate=root.certificate, state=state, not_after=root.not_after, since=generation)

    if next_step(roots) is Step.REMOVE:
        return tuple(root for root in roots if root.state is not RootState.LEAVING)
    after = {RootState.JOINING: RootState.ISSUING, RootState.ISSUING: RootState.LEAVING}
    return tuple(to(root, after[root.state]) for root in roots)


class Handing(StrEnum):
    """What becomes of a root that somebody else made and that shall issue."""

    FOUND = "found"  # there is none yet: it is the first
    JOIN = "join"  # a rotation to it begins
    RENEW = "renew"  # it is there, and its key or what stands between is another one
    WAIT = "wait"  # another rotation has to end first
    NONE = "none"  # it issues, or is about to


def handing(roots: Sequence[Root], new: str, renewed: bool) -> Handing:
    """`renewed`: whoever issues has another key, or another chain, than the one handed in."""
    if not roots:
        return Handing.FOUND
    if (joining := in_state(roots, RootState.JOINING)) is not None:
        return Handing.NONE if joining.id == new else Handing.WAIT
    issuing = in_state(roots, RootState.ISSUING)
    if issuing is not None and issuing.id == new:
        return Handing.RENEW if renewed else Handing.NONE
    return Handing.WAIT if in_state(roots, RootState.LEAVING) else Handing.JOIN


# --- who would be cut off


def matters(record: Record, now: float) -> bool:
    return any(leaf.until + SKEW_SECONDS > now for leaf in record.leafs)


def outlook(roots: Sequence[Root], records: Iterable[Record], now: float, step: Step) -> tuple[Node, ...]:
    """Every node that matters, and whether it is ready for that step. For NONE: for the first step of a rotation."""
    living = {record.node: record for record in records if matters(record, now)}
    seen = {peer: record.node for record in living.values() for peer in record.peers}
    found = [_node(roots, record, step) for record in living.values()]
    known = {record.node for record in records}
    found += [
        Node(node=peer, obstacle=f"{witness} sees it in the mesh, and it never said what it believes")
        for peer, witness in seen.items()
        if peer not in known
    ]
    return tuple(sorted(found, key=lambda node: node.node))


def _node(roots: Sequence[Root], record: Record, step: Step) -> Node:
    return Node(
        node=record.node,
        trusts=record.trusts,
        issued_by=tuple(leaf.root for leaf in record.leafs),
        certificates=sum(leaf.count for leaf in record.leafs),
        until=max(leaf.until for leaf in record.leafs),
        written_at=record.written_at,
        obstacle="; ".join(_obstacles(roots, record, step)),
    )


def _obstacles(roots: Sequence[Root], record: Record, step: Step) -> Iterator[str]:
    joining, leaving = in_state(roots, RootState.JOINING), in_state(roots, RootState.LEAVING)
    if step is Step.NONE:
        yield from (f"does not believe {root.id}, from which others' come" for root in roots if _unknown(root, record))
    elif step is Step.SWITCH and joining and _unknown(joining, record):
        yield f"does not believe the new root {joining.id} yet"
    elif step is Step.REMOVE and leaving:
        if record.generation < leaving.since:
            yield f"has not heard yet that {leaving.id} is leaving"
        left = sum(leaf.count for leaf in record.leafs if leaf.root == leaving.id)
        if left:
            yield f"has {left} certificates from the old root {leaving.id}"


def _unknown(root: Root, record: Record) -> bool:
    return root.id not in record.trusts


class Settling:
    """A step is taken when nothing has stood in its way for some seconds: agents tell their workers before they write
    what they believe, and a worker needs a moment to do as it is told. The clock is the decider's own."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._clear: tuple[int, float] | None = None  # generation, since when

    def ready(self, generation: int, clear: bool, now: float) -> bool:
        """Called at every look; `clear`: no obstacle at this one."""
        if not clear:
            self._clear = None
            return False
        if self._clear is None or self._clear[0] != generation:
            self._clear = (generation, now)
        return now - self._clear[1] >= self._seconds


def describe(roots: Sequence[Root], nodes: Sequence[Node]) -> str:
    """What happens next and what it waits for, as a sentence."""
    joining, leaving = in_state(roots, RootState.JOINING), in_state(roots, RootState.LEAVING)
    waiting = [node.node for node in nodes if node.obstacle]
    many = f"{len(nodes)} node{'s' if len(nodes) != 1 else ''} with certificates"
    still = f"; waiting for {', '.join(waiting)}" if waiting else "; nothing stands in its way"
    if joining:
        return f"the new root {joining.id} issues once all of {many} believe it{still}"
    if leaving:
        return f"the old root {leaving.id} is removed once none of {many} has one from it{still}"
    return f"a new root would join, issue once all of {many} believe it, and then take the old one's place{still}"
