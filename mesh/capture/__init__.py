"""Stage 1: the kernel hands us a connection that was meant for someone else.

`Kernel` is the whole of it for the agent: bpf/*.c compiled in a child (compile), loaded by raw bpf(2) (objects,
programs), maps adopted or migrated (generation), hooks attached by pinned links (links, hooks), tables written
(pods, destinations). Only the compiling child imports bcc.
"""

from mesh.capture.kernel import (
    INBOUND_PORT,
    MAX_WORKERS,
    OUTBOUND_PORT,
    PODS_MAX,
    SEINE_SOL,
    SEINE_TRUE_CLIENT,
    Kernel,
)
from mesh.capture.objects import KernelError
from mesh.capture.pins import cgroup2_root, clean, pin_root
from mesh.capture.pods import PodCounters

__all__ = [
    "INBOUND_PORT",
    "MAX_WORKERS",
    "OUTBOUND_PORT",
    "PODS_MAX",
    "SEINE_SOL",
    "SEINE_TRUE_CLIENT",
    "Kernel",
    "KernelError",
    "PodCounters",
    "cgroup2_root",
    "clean",
    "pin_root",
]
