/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every map, with one sentence each; README.md has the table. Names, types and sizes are those that Python finds
 * in the kernel. A map whose line here and whose structs in types.h did not change survives an upgrade as it is;
 * another is made anew and its content copied (mesh/capture/generation.py).
 */

/* Which enrolled pod lives in a network namespace: netns cookie -> slot. */
BPF_F_TABLE("hash", u64, u32, slots, PODS_MAX, BPF_F_NO_PREALLOC);

/* How the pod of a slot wants to be treated. */
BPF_TABLE("array", u32, struct pod, pods, PODS_MAX);

/* Ports of a pod that are left alone. */
BPF_F_TABLE("hash", struct port_rule, u8, port_rules, PORT_RULES_MAX, BPF_F_NO_PREALLOC);

/* Listening sockets inside the pods, at slot * 2 + direction; an entry is gone the instant its listener closes. */
BPF_TABLE("sockmap", u32, u64, listeners, 1024 /* PODS_MAX * 2 */);

/* The addresses that connect captures: {VIP, port}, or {pod address, 0}. */
BPF_F_TABLE("hash", struct address, struct destination, destinations, DESTINATIONS_MAX, BPF_F_NO_PREALLOC);

/* Endpoints that the hook picks from while no worker lives. */
BPF_F_TABLE("hash", struct backend_key, struct address, backends, BACKENDS_MAX, BPF_F_NO_PREALLOC);

/* What we know of a socket. */
BPF_SK_STORAGE(notes, struct note);

/* Notes on their way from the client's socket to the accepted one; written before the SYN leaves, deleted on accept. */
BPF_TABLE("lru_hash", struct flow, struct note, flows, FLOWS_MAX);

/* When kubelet began a connection, CLOCK_MONOTONIC ns; sockops writes it before the SYN leaves, and nobody deletes it
 * on use: a connection request may come more than once. */
BPF_TABLE("lru_hash", struct probe, u64, probes, PROBES_MAX);

/* CLOCK_MONOTONIC ns, written by workers through mmap: cell 0 by all of them, cell 1 + w by worker w; behind
 * them how many connections each carries, for the others (cext/neighbours.c). */
BPF_F_TABLE("array", u32, u64, heartbeat, 1 + 2 * WORKERS_MAX, BPF_F_MMAPABLE);

/* enum setting. */
BPF_TABLE("array", u32, u64, settings, SETTINGS_MAX);

/* enum reason, per slot. */
BPF_TABLE("percpu_array", u32, struct counters, counters, PODS_MAX);

/* In which namespace the addresses of short-cut pods are: address (port 0) -> netns cookie. */
BPF_F_TABLE("hash", struct address, u64, homes, HOMES_MAX, BPF_F_NO_PREALLOC);

/* Sockets in the short-cut. The program on it (shortcut.c) sees every message that they send. */
BPF_SOCKHASH(ends, struct end, ENDS_MAX);

/* What a socket in the short-cut knows of itself. */
BPF_SK_STORAGE(shortcuts, struct shortcut);

/* What both ends of a connection in the short-cut must see; deleted when one of them closes. LRU in case nobody told us. */
BPF_TABLE("lru_hash", struct pair, struct lane, lanes, LANES_MAX);
