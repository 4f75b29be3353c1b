/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * getsockname(): a socket accepted by our outbound listener answers the original destination, which is how a worker
 * learns it without the right to call bpf(). And a captured client never says loopback (as_pod). Attached to the
 * cgroup root; all other sockets are left alone.
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
    return note->kind == NOTE_CAPTURED && as_pod(ctx, now->ip);
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
