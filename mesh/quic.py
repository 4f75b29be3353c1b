"""The QUIC process: tunnels to other nodes over UDP, without any privilege. Wiring only.

One per node, and only where a MeshNode asks for the transport. It is as its workers are: own uid, no capability, and
it goes on without an agent. A process of its own because aioquic's 34 MiB and its share of a core are for those who
use it, and because what it breaks is its own: workers go on, by HBONE.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import signal
import time
from functools import partial
from pathlib import Path

import uvloop

from mesh.aio.channel import ChannelClosed
from mesh.aio.duties import run_until
from mesh.aio.lock import hold_lock
from mesh.aio.privileges import drop_privileges
from mesh.aio.process import knock
from mesh.forward.quic.credentials import NodeCredentials
from mesh.forward.quic.messages import decode_to_quic
from mesh.forward.quic.node import Node
from mesh.identity.peer import Unproven, is_denied, prove
from mesh.observe.logs import to_stream

log = logging.getLogger("seine.quic")
logging.getLogger("quic").setLevel(logging.CRITICAL)  # aioquic's, which says every packet that a stranger gets wrong


async def serve(node: Node, agent_socket: Path) -> None:
    """One conversation with an agent after the other, until drained."""
    while True:
        channel = await knock(agent_socket)
        node.meet(channel)
        try:
            while True:
                payload, descriptors = await channel.receive()
                node.obey(decode_to_quic(payload), descriptors)
        except ChannelClosed as end:
            log.warning("the agent is away (%s); what stands goes on, and new handshakes go by HBONE", end)
        finally:
            channel.close()
            node.part()


async def main(agent_socket: Path, uid: int) -> None:
    drop_privileges(uid)
    gc.freeze()  # what was imported stays: no collection looks at it again
    node = Node(NodeCredentials(prove, is_denied, Unproven, time.time))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, node.drain)
    await run_until(node.drained, [partial(serve, node, agent_socket), node.tend, node.report])
    node.close()


def run() -> None:
    parser = argparse.ArgumentParser(prog="seine quic")
    parser.add_argument("--agent-socket", type=Path, required=True)
    parser.add_argument("--uid", type=int, required=True)
    parser.add_argument("--lock", type=int, required=True, help="descriptor of the lock that says we live")
    parser.add_argument("--log-level", default="INFO")
    arguments = parser.parse_args()
    hold_lock(arguments.lock)
    with to_stream(arguments.log_level), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(arguments.agent_socket, arguments.uid))


if __name__ == "__main__":
    run()
