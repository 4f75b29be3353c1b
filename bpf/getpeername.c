/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * getpeername() and accept(): an app sees the address it asked for, and the true client of a connection that we
 * carried to it. Attached to the cgroup root; sockets without a note are left alone.
 */
#include "common.h"

static inline struct note *peer_of(struct bpf_sock *sk)
{
    struct note *note = notes.sk_storage_get(sk, 0, 0);
    if (note && (note->kind == NOTE_CAPTURED || note->kind == NOTE_DIRECT || note->kind == NOTE_PROXIED))
        return note;
    return 0;
}

int getpeername4(struct bpf_sock_addr *ctx)
{
    struct bpf_sock *sk = ctx->sk;
    if (!sk)
        return PASS;
    struct note *note = peer_of(sk);
    if (!note || !is_ip4(note->address.ip)) /* an IPv6 client cannot be shown to an IPv4-only app */
        return PASS;
    ctx->user_ip4 = note->address.ip[3];
    apart();
    ctx->user_port = bpf_htons(note->address.port);
    return PASS;
}

int getpeername6(struct bpf_sock_addr *ctx)
{
    struct bpf_sock *sk = ctx->sk;
    if (!sk)
        return PASS;
    struct note *note = peer_of(sk);
    if (!note)
        return PASS;
    ctx->user_ip6[0] = note->address.ip[0];
    apart();
    ctx->user_ip6[1] = note->address.ip[1];
    apart();
    ctx->user_ip6[2] = note->address.ip[2];
    apart();
    ctx->user_ip6[3] = note->address.ip[3];
    apart();
    ctx->user_port = bpf_htons(note->address.port);
    return PASS;
}
