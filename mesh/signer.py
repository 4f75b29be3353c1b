"""The signer: the node's private keys, in memory only, and signatures with them for handshakes. Wiring only.

One per node, without any privilege, and small: it imports next to nothing, and what it does is C (cext/signer.c). The
agent gives it keys, and sockets on which workers ask. It goes on without an agent for as long as somebody holds such a
socket; a successor of the agent takes it over. Nobody reads its memory: it is not dumped, not traced, and where the
limits allow it not swapped.
"""

from __future__ import annotations

import argparse
import resource
import signal
import socket
import sys
import time

from mesh.aio.lock import hold_lock
from mesh.aio.privileges import drop_privileges
from mesh.forward.signing.protocol import Signer, lock_memory

REPORT_MS = 500  # the agent takes silence of some seconds for death
KNOCK_MS = 200  # a restarting agent is back within about a second
ALONE_SECONDS = 10.0  # nobody needs us and no agent comes


def knock(signer: Signer, path: str) -> None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    try:
        sock.connect(path)
    except OSError:  # it is not there, or busy
        sock.close()
    else:
        signer.meet(sock.detach())


def serve(signer: Signer, path: str) -> None:
    """Until it is not needed any more, or the agent is of another version and wants another signer."""
    needed_at = time.monotonic()
    while not signer.is_outdated:
        if not signer.has_agent:
            knock(signer, path)
        signer.run(REPORT_MS if signer.has_agent else KNOCK_MS)
        now = time.monotonic()
        if signer.clients or signer.has_agent:
            needed_at = now
        elif now - needed_at > ALONE_SECONDS:
            return


def run() -> None:
    parser = argparse.ArgumentParser(prog="seine signer")
    parser.add_argument("--agent-socket", required=True)
    parser.add_argument("--uid", type=int, required=True)
    parser.add_argument("--lock", type=int, required=True, help="descriptor of the lock that says we live")
    arguments = parser.parse_args()
    hold_lock(arguments.lock)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not lock_memory():
        sys.stderr.write("the signer's keys may be swapped: RLIMIT_MEMLOCK is below 256 KiB\n")
    drop_privileges(arguments.uid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at a terminal it is meant for who has started us
    serve(Signer(), arguments.agent_socket)


if __name__ == "__main__":
    run()
