/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * getsockname(): a socket accepted by our outbound listener answers the original destination, which is how a worker
 * learns it without the right to call bpf(). And a captured client that had bound a port but no address (so that
 * connect could not bind the pod's) says the pod's address instead of loopback. Attached to the cgroup root; all
 * other sockets are left alone.
 */
#include "common.h"

/* What to answer, or false to leave the kernel's answer (`now`) alone. */
static inline bool name_of(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct address *now)
{
    struct note *note = notes.sk_storage_get(sk, 0, 0);
    if (!note)
        return false;
    if (note->kind == NOTE_ACCEPTED) {
        *now = note->address;
        return true;
    }
    if (note->kind != NOTE_CAPTURED || !is_loopback(now->ip))
        return false;
    u64 netns = bpf_get_netns_cookie(ctx);
    u32 *slot = slots.lookup(&netns);
    struct pod *pod = slot ? pods.lookup(slot) : 0;
    if (!pod)
        return false;
    if (is_ip4(now->ip))
        now->ip[3] = pod->ip4;
    else
        __builtin_memcpy(now->ip, pod->ip6, sizeof(now->ip));
    return true;
}

int getsockname4(struct bpf_sock_addr *ctx)
{
    struct bpf_sock *sk = ctx->sk;
    if (!sk)
        return PASS;
    struct address now = {};
    set_ip4(now.ip, ctx->user_ip4);
    now.port = bpf_ntohs((u16)ctx->user_port);
    if (!name_of(ctx, sk, &now))
        return PASS;
    ctx->user_ip4 = now.ip[3];
    apart();
    ctx->user_port = bpf_htons(now.port);
    return PASS;
}

int getsockname6(struct bpf_sock_addr *ctx)
{
    struct bpf_sock *sk = ctx->sk;
    if (!sk)
        return PASS;
    struct address now = {};
    now.ip[0] = ctx->user_ip6[0];
    now.ip[1] = ctx->user_ip6[1];
    now.ip[2] = ctx->user_ip6[2];
    now.ip[3] = ctx->user_ip6[3];
    now.port = bpf_ntohs((u16)ctx->user_port);
    if (!name_of(ctx, sk, &now))
        return PASS;
    ctx->user_ip6[0] = now.ip[0];
    apart();
    ctx->user_ip6[1] = now.ip[1];
    apart();
    ctx->user_ip6[2] = now.ip[2];
    apart();
    ctx->user_ip6[3] = now.ip[3];
    apart();
    ctx->user_port = bpf_htons(now.port);
    return PASS;
}
