"""The worker process: one engine in one event loop, without any privilege. Wiring only.

It lives on what it was told: while the agent is away it serves on with the plans and sockets it holds, and it keeps
knocking until an agent answers. The order at start is: import everything, connect, drop privileges, serve.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

import uvloop

from mesh.aio.channel import ChannelClosed
from mesh.aio.lock import hold_lock
from mesh.aio.privileges import drop_privileges
from mesh.aio.process import knock
from mesh.forward import messages
from mesh.forward.carrier import Carrier
from mesh.forward.programs import RETIRE
from mesh.forward.quic.caller import DOOR, Caller
from mesh.observe.logs import to_stream

log = logging.getLogger("seine.worker")


async def serve(carrier: Carrier, agent_socket: Path) -> None:
    """One conversation with an agent after the other, until drained."""
    while True:
        channel = await knock(agent_socket)
        carrier.meet(channel)
        try:
            while True:
                payload, descriptors = await channel.receive()
                carrier.obey(messages.decode_from_agent(payload), descriptors)
        except ChannelClosed as end:
            log.warning("the agent is away (%s); serving on with what is known", end)
        finally:
            channel.close()
            carrier.part()


async def main(worker: int, agent_socket: Path, uid: int) -> None:
    drop_privileges(uid)
    carrier = Carrier(worker)
    quic = Caller(agent_socket.with_name(DOOR), worker, carrier.arrived)
    carrier.open_quic = quic.open
    serving = asyncio.create_task(serve(carrier, agent_socket))
    asking = asyncio.create_task(quic.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, carrier.drain)
    asyncio.get_running_loop().add_signal_handler(RETIRE, carrier.retire)
    drained = asyncio.create_task(carrier.drained.wait())
    await asyncio.wait({serving, asking, drained}, return_when=asyncio.FIRST_COMPLETED)
    for task in (serving, asking):
        if task.done():
            task.result()
    carrier.close()


def run() -> None:
    parser = argparse.ArgumentParser(prog="seine worker")
    parser.add_argument("--worker", type=int, required=True)
    parser.add_argument("--agent-socket", type=Path, required=True)
    parser.add_argument("--uid", type=int, required=True)
    parser.add_argument("--lock", type=int, required=True, help="descriptor of the lock that says we live")
    parser.add_argument("--log-level", default="INFO")
    arguments = parser.parse_args()
    hold_lock(arguments.lock)
    with to_stream(arguments.log_level), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(arguments.worker, arguments.agent_socket, arguments.uid))


if __name__ == "__main__":
    run()
