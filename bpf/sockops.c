/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TCP events: carries a note from a client's socket to the socket that its connection is accepted as, in the same
 * network namespace. Attached to the cgroup root. The note is published before the SYN leaves and taken when the
 * handshake ends, which is before accept() can return the socket. Every connect inside an enrolled pod overwrites
 * or deletes the entry of its own tuple, so an old entry never speaks for a new connection.
 * Always returns 1 and leaves `reply` alone: other programs may be attached for the options we do not care for.
 */
#include "common.h"

static inline void read_tuple(struct bpf_sock_ops *ctx, struct address *local, struct address *remote)
{
    if (ctx->family == FAMILY_IP4) {
        set_ip4(local->ip, ctx->local_ip4);
        set_ip4(remote->ip, ctx->remote_ip4);
        apart(); /* or both branches become one load through a computed context pointer, which the verifier refuses */
    } else {
        local->ip[0] = ctx->local_ip6[0];
        local->ip[1] = ctx->local_ip6[1];
        local->ip[2] = ctx->local_ip6[2];
        local->ip[3] = ctx->local_ip6[3];
        remote->ip[0] = ctx->remote_ip6[0];
        remote->ip[1] = ctx->remote_ip6[1];
        remote->ip[2] = ctx->remote_ip6[2];
        remote->ip[3] = ctx->remote_ip6[3];
        apart();
    }
    local->port = ctx->local_port;
    remote->port = bpf_ntohl(ctx->remote_port);
}

/* What the accepted socket of this client's connection shall be told; NOTE_NONE: nothing. */
static inline u32 told(const struct note *note)
{
    if (note && note->kind == NOTE_CAPTURED)
        return NOTE_ACCEPTED;
    if (note && note->kind == NOTE_OURS && note->address.port)
        return NOTE_PROXIED;
    return NOTE_NONE;
}

static inline void publish(struct bpf_sock_ops *ctx)
{
    struct flow flow = {.netns = bpf_get_netns_cookie(ctx)};
    u32 *slot = slots.lookup(&flow.netns);
    struct bpf_sock *sk = ctx->sk;
    if (!slot || !sk)
        return;
    struct note *note = notes.sk_storage_get(sk, 0, 0), copy = {.kind = told(note)};
    read_tuple(ctx, &flow.client, &flow.server);
    if (copy.kind == NOTE_NONE) {
        flows.delete(&flow);
        return;
    }
    if (note)
        copy.address = note->address;
    if (flows.update(&flow, &copy))
        count(*slot, REASON_FLOW_FAILED);
}

static inline void receive(struct bpf_sock_ops *ctx)
{
    struct flow flow = {.netns = bpf_get_netns_cookie(ctx)};
    u32 *slot = slots.lookup(&flow.netns);
    struct bpf_sock *sk = ctx->sk;
    if (!sk || (!slot && ctx->local_port != OUTBOUND_PORT)) /* a pod unenrolled in mid-handshake still gets its answer */
        return;
    read_tuple(ctx, &flow.server, &flow.client);
    struct note *published = flows.lookup(&flow);
    if (!published) {
        if (slot && flow.server.port == OUTBOUND_PORT && is_loopback(flow.server.ip))
            count(*slot, REASON_FLOW_MISSING);
        return;
    }
    struct note *note = notes.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (note)
        *note = *published;
    else if (slot)
        count(*slot, REASON_NOTE_FAILED);
    flows.delete(&flow);
}

int sockops(struct bpf_sock_ops *ctx)
{
    if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
        publish(ctx);
    else if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
        receive(ctx);
    return 1;
}
