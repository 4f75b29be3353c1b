"""Loss: a small BPF program on the way out of a port drops each IP packet with a probability, and counts both kinds.

Chance is the kernel's own. ARP and ICMPv6 (neighbour discovery, and pings with it) always pass. Compiled in a child,
because importing bcc costs 64 MiB and compiling more: `python -m tests.kit.loss SOCKET`. Attached as a direct-action
filter of clsact; the filter goes with the port.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from pyroute2 import IPRoute

from tests.kit.bpf import read_u64, write_u64

ROOT = Path(__file__).resolve().parents[2]
COMPILE_SECONDS_MAX = 60  # one on an idle machine
EGRESS = 0xFFFFFFF3  # TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)
THRESHOLD, PASSED, LOST = 0, 1, 2
SOURCE = """
#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
BPF_ARRAY(state, u64, 3);

static u64 *cell(int index) { return state.lookup(&index); }

static int is_neighbour_talk(struct __sk_buff *skb)
{
    if (skb->protocol == bpf_htons(ETH_P_IP))
        return 0;
    if (skb->protocol != bpf_htons(ETH_P_IPV6))
        return 1;
    u8 next = 0;
    bpf_skb_load_bytes(skb, ETH_HLEN + 6, &next, 1);
    return next == 58; /* ICMPv6 */
}

int lose(struct __sk_buff *skb)
{
    u64 *threshold = cell(0), *passed = cell(1), *lost = cell(2);

    if (!threshold || !passed || !lost || is_neighbour_talk(skb))
        return 0; /* TC_ACT_OK */
    if (bpf_get_prandom_u32() < *threshold) {
        __sync_fetch_and_add(lost, 1);
        return 2; /* TC_ACT_SHOT */
    }
    __sync_fetch_and_add(passed, 1);
    return 0;
}
"""


class Loss:
    def __init__(self, undo: ExitStack) -> None:
        self._program, self._state = _compiled()
        undo.callback(os.close, self._program)
        undo.callback(os.close, self._state)

    def attach(self, ip: IPRoute, port: int) -> None:
        """To the interface with that index, in the namespace of `ip`."""
        ip.tc("add", "clsact", port)
        ip.tc("add-filter", "bpf", port, fd=self._program, name="lose", parent=EGRESS, classid=1, direct_action=True)

    def set(self, probability: float) -> None:
        write_u64(self._state, THRESHOLD, round(probability * 2**32))

    @property
    def passed(self) -> int:
        return read_u64(self._state, PASSED)

    @property
    def lost(self) -> int:
        return read_u64(self._state, LOST)


def _compiled() -> tuple[int, int]:
    """Descriptors of the program and its array."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "tests.kit.loss", str(theirs.fileno())]
    with (
        ours,
        subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
        ) as child,
    ):
        theirs.close()
        ours.settimeout(COMPILE_SECONDS_MAX)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 2)
        said = child.communicate(timeout=COMPILE_SECONDS_MAX)[1]
    if len(descriptors) != 2:
        raise RuntimeError(f"the loss program was not compiled:\n{said.decode(errors='replace')}")
    return descriptors[0], descriptors[1]


def main() -> None:
    os.environ["BCC_KERNEL_SOURCE"] = str(ROOT / "bpf/kheaders")  # bcc reads it at import
    import bcc

    system = ["-isystem", "/usr/include", "-isystem", f"/usr/include/{os.uname().machine}-linux-gnu"]
    module = bcc.BPF(text=SOURCE, cflags=["-w", *system])
    function = module.load_func(b"lose", bcc.BPF.SCHED_CLS)
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        socket.send_fds(parent, [b"."], [function.fd, module[b"state"].map_fd])


if __name__ == "__main__":
    main()
