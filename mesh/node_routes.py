"""Keeps the routes to other nodes' pods as the Node objects want them; what somebody removes comes back.

A look at the tables follows every change of the objects or of the tables, and a slow poll besides. Routes outlive the
agent, as the hooks do: only `seine clean`, or an agent with `node_routing` disabled, takes them out. One agent per
network namespace may keep routes, since all of ours look alike: the claim is an abstract socket, which belongs to the
namespace and dies with its process.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from mesh.config import AgentConfig, NodeRouting
from mesh.model import Host
from mesh.node.routing import Neighbour, Plan, Standing, plan
from mesh.node.tables import Found, Route, Rule

log = logging.getLogger("seine.routes")
POLL_SECONDS = 30.0  # for what no event told: a queue of events that ran over
SETTLE_SECONDS = 0.1  # a CNI that starts changes many things at once; one look is enough for all of them
MARK = "node-routes"  # this file in the run directory says that there may be routes of ours
CLAIM = "\0seine-node-routes"
RECEIVE_BYTES = 1 << 16


class NodeRoutes:
    def __init__(self, config: AgentConfig) -> None:
        self._node, self._mode, self._run_dir = config.node, config.node_routing, config.run_dir
        self._hosts: Sequence[Host] = ()
        self._changed = asyncio.Event()
        self._claim: socket.socket | None = None
        self._kept: set[Route | Rule] = set()  # what was in the tables when we last looked away
        self.neighbours: tuple[Neighbour, ...] = ()
        self.problem = ""  # a sentence: why nothing is kept at all
        self.repairs_total = 0

    def see(self, hosts: Sequence[Host]) -> None:
        self._hosts = hosts
        self._changed.set()

    async def run(self) -> None:
        """For ever; costs nothing while there is no other node and nothing of ours is left."""
        while not self._concerned():
            await self._changed.wait()
            self._changed.clear()
        async with self._listening():
            while True:
                await self._settle()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), POLL_SECONDS)
                await asyncio.sleep(SETTLE_SECONDS)
                self._changed.clear()

    def _concerned(self) -> bool:
        others = any(host.name != self._node and host.pod_cidrs for host in self._hosts)
        return (others and self._mode is not NodeRouting.DISABLED) or (self._run_dir / MARK).exists()

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        from mesh.node.routes import listen  # 12 MiB, see there

        loop = asyncio.get_running_loop()
        with listen() as events:
            loop.add_reader(events.fileno(), self._heard, events)
            try:
                yield
            finally:
                loop.remove_reader(events.fileno())

    def _heard(self, events: socket.socket) -> None:
        try:
            while True:
                events.recv(RECEIVE_BYTES)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # which says that events were lost: as good as one
                raise
        self._changed.set()

    async def _settle(self) -> None:
        """One look, and what it takes."""
        self._claim = self._claim or claimed()
        if self._claim is None:
            self._fail("another agent keeps the routes of this network namespace; one of the two has to go")
            return
        (self._run_dir / MARK).touch()
        try:
            found, made, failures = await asyncio.to_thread(settle, tuple(self._hosts), self._node, self._mode)
        except OSError as error:
            self._fail(str(error))
            return
        self.problem = ""
        self._note_repairs(made)
        self._kept = kept(found, made, failures)
        self._tell(tuple(_with_failure(each, failures) for each in made.neighbours))
        if self._mode is NodeRouting.DISABLED and not failures:
            (self._run_dir / MARK).unlink()

    def _fail(self, sentence: str) -> None:
        if sentence != self.problem:
            log.error("routes to the pods of other nodes are not kept: %s", sentence)
        self.problem, self.neighbours = sentence, ()

    def _note_repairs(self, made: Plan) -> None:
        for each in (*made.put, *made.put_rules):
            if each in self._kept:
                self.repairs_total += 1
                what = "route" if isinstance(each, Route) else "rule"
                log.warning("repaired: the %s to %s was removed by somebody and is back", what, each.destination)

    def _tell(self, neighbours: tuple[Neighbour, ...]) -> None:
        """Log what is not as it was: quietly what is well, loudly what needs somebody."""
        for each in set(neighbours) - set(self.neighbours):
            level = logging.INFO if each.reached else logging.WARNING
            log.log(level, "pods of node %s, %s: %s", each.node, each.cidr, each.detail or f"routed via {each.gateway}")
        self.neighbours = neighbours


def settle(hosts: Sequence[Host], own: str, mode: NodeRouting) -> tuple[Found, Plan, dict[Route | Rule, str]]:
    """Blocks. What was found, what was to be done about it, and what of that the kernel refused. Raises OSError."""
    from mesh.node.routes import apply, look

    found = look()
    made = plan(hosts, own, found, mode)
    return found, made, apply(made)


def kept(found: Found, made: Plan, failures: dict[Route | Rule, str]) -> set[Route | Rule]:
    """What is in the tables after a plan was carried out; whoever asks means only ours."""
    there: set[Route | Rule] = {*found.routes, *found.rules, *made.put, *made.put_rules}
    return there - {*made.remove, *made.remove_rules} - failures.keys()


def _with_failure(neighbour: Neighbour, failures: dict[Route | Rule, str]) -> Neighbour:
    reasons = [reason for what, reason in failures.items() if what.destination == neighbour.cidr]
    if not reasons:
        return neighbour
    detail = f"the kernel refuses the route to {neighbour.cidr} via {neighbour.gateway}: {reasons[0]}"
    return msgspec.structs.replace(neighbour, standing=Standing.FAILED, detail=detail)


def claimed() -> socket.socket | None:
    """The right to keep routes in this network namespace, as long as the socket lives; None: somebody has it."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(CLAIM)
    except OSError:
        claim.close()
        return None
    return claim


def leave(run_dir: Path) -> list[str]:
    """Take out what an agent of this run directory left; a sentence for each thing. Blocks; raises OSError."""
    if not (run_dir / MARK).exists():
        return []
    claim = claimed()
    if claim is None:
        return ["left the routes to other nodes' pods: the agent of another node name keeps them now"]
    with claim:
        _, made, failures = settle((), "", NodeRouting.DISABLED)
    if failures:
        what, reason = next(iter(failures.items()))
        raise OSError(errno.EIO, f"the route to {what.destination} cannot be removed: {reason}")
    (run_dir / MARK).unlink()
    return [
        *(f"removed the route to {route.destination} via {route.gateway}" for route in made.remove),
        *(f"removed the rule for {rule.destination}" for rule in made.remove_rules),
    ]
