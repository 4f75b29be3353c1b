"""Stage 1: the kernel hands us a connection that was meant for someone else. Only the compiling child imports bcc.

kernel          the whole of it for the agent; opening it puts every hook in place
compile         bpf/*.c -> bytecode and maps, in a child
generation      which maps are used: adopted, migrated or fresh ones
programs        which function goes where, and how bytecode becomes a program
links           ... and a program a pinned link
hooks           what is attached, and where
objects         maps, programs and links as small objects; bpf/types.h as bytes
pins            where things are kept
pods            the tables about pods
destinations    the tables that connect() decides by
helper          a process that makes sockets in pods and forks provers
sockets         those sockets
prover          proof, by trying, that a pod is captured
existing        connections that are older than the capture
shortcut        bytes between two sockets of the node past TCP: the switch
shortcut_trial  ... tried before it is used
shortcut_bytes  ... and what the trial sends
preflight       what `seine check` asks of a machine
trials          kernel features, tried where they concern nobody
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
