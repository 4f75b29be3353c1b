/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the hooks share. bcc rewrites map calls only in the main source text, so these are inline functions in the
 * concatenated text (never macros), and every hook reads ctx->sk exactly once: the verifier forgets that two reads
 * are the same socket.
 */
#include "types.h"
#include "maps.h"

enum { PASS = 1, DENY = 0 };                /* verdicts of cgroup hooks */
enum { FAMILY_IP4 = 2, FAMILY_IP6 = 10 };   /* AF_INET, AF_INET6: no exported kernel header has them */
enum { REFUSED = -111 };                    /* -ECONNREFUSED */

/* Between writes to neighbouring context fields: clang would merge them into one that the verifier refuses. */
#define apart() asm volatile("" ::: "memory")

static inline void count(u32 slot, u32 reason)
{
    struct counters *c = counters.lookup(&slot);
    if (c && reason < REASONS_MAX)
        __sync_fetch_and_add(&c->count[reason], 1);
}

static inline bool is_ip4(const u32 *ip)
{
    return !ip[0] && !ip[1] && ip[2] == bpf_htonl(0xffff);
}

static inline void set_ip4(u32 *ip, u32 ip4)
{
    ip[0] = ip[1] = 0;
    ip[2] = bpf_htonl(0xffff);
    ip[3] = ip4;
}

static inline bool is_loopback(const u32 *ip)
{
    if (is_ip4(ip))
        return (ip[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
    return !ip[0] && !ip[1] && !ip[2] && ip[3] == bpf_htonl(1);
}

/* An address of 127.0.0.0/8 for each number: 4 million, all odd, so neither network nor broadcast address. */
static inline u32 loopback_of(u64 number)
{
    u64 mixed = number * 0x9e3779b97f4a7c15ULL; /* Fibonacci hashing: neighbours end far apart */
    return bpf_htonl(0x7f000001 | ((u32)(mixed >> 40) & 0x007ffffe));
}

/* A worker was seen alive less than the allowed time ago. */
static inline bool beating(void)
{
    u32 cell = 0, which = SETTING_HEARTBEAT_NS_MAX;
    u64 *beat = heartbeat.lookup(&cell), *max = settings.lookup(&which);
    return beat && max && *beat && (s64)(bpf_ktime_get_ns() - *beat) <= (s64)*max;
}

/*
 * A client that has bound a port but no address cannot be given the pod's by connect, so the kernel took a loopback
 * one. Replaces that by the pod's; false when there is nothing to replace.
 */
static inline bool as_pod(struct bpf_sock_addr *ctx, u32 *ip)
{
    u64 netns = bpf_get_netns_cookie(ctx);
    u32 *slot = is_loopback(ip) ? slots.lookup(&netns) : 0;
    struct pod *pod = slot ? pods.lookup(slot) : 0;
    if (!pod)
        return false;
    if (is_ip4(ip))
        ip[3] = pod->ip4;
    else
        __builtin_memcpy(ip, pod->ip6, sizeof(pod->ip6));
    return true;
}

/* Its own sending half is not shut down yet. */
static inline bool may_send(const struct bpf_sock *sk)
{
    return sk->state == BPF_TCP_ESTABLISHED || sk->state == BPF_TCP_CLOSE_WAIT;
}

/* The id of the cgroup that this node's kubelet is in; 0: not known. */
static inline u64 kubelet(void)
{
    u32 which = SETTING_KUBELET;
    u64 *cgroup = settings.lookup(&which);
    return cgroup ? *cgroup : 0;
}

static inline bool skipped(u32 slot, u8 direction, u16 port)
{
    struct port_rule rule = {.slot = slot, .port = port, .direction = direction};
    return port_rules.lookup(&rule) != 0;
}
