/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * connect(): an enrolled pod's TCP connection to an address we know goes to the listener inside the pod.
 * Attached to the cgroup root. Rules, in this order: not ours to judge (no TCP, no enrolled pod), but kubelet's
 * sockets are marked; our own sockets pass; what cannot or shall not be captured goes direct and is counted by reason;
 * a Service without endpoints is refused; without a living worker the pod's fail mode decides, but whoever is reached
 * by tunnel is never reached without. Bias: what is not known is left alone, unless it may be what had no room in the
 * table.
 */
#include "common.h"

struct route {
    struct address to;  /* where to connect */
    u32 source[4];      /* what to bind an unbound socket to; all zero: nothing */
    u32 slot;
};

static inline bool alive(u32 slot)
{
    u32 index = slot * 2 + OUTBOUND;
    struct bpf_sock *listener = (struct bpf_sock *)listeners.lookup(&index);
    if (!listener)
        return false;
    bpf_sk_release(listener);
    return beating();
}

/* The reason for which an address is never captured, or -1. */
static inline int untouchable(const u32 *ip)
{
    u32 last = bpf_ntohl(ip[3]), first = bpf_ntohl(ip[0]);
    if (is_loopback(ip) || (is_ip4(ip) ? !last : !(ip[0] | ip[1] | ip[2] | ip[3])))
        return REASON_DIRECT_LOOPBACK;
    if (is_ip4(ip) ? last >> 16 == 0xa9fe : first >> 22 == 0x3fa)
        return REASON_DIRECT_LINK_LOCAL;
    if (is_ip4(ip) ? last >> 28 == 0xe : first >> 24 == 0xff)
        return REASON_DIRECT_MULTICAST;
    return -1;
}

static inline struct destination *known(const struct address *asked)
{
    struct address any = *asked;
    struct destination *found = destinations.lookup(&any);
    if (found)
        return found;
    any.port = 0;
    return destinations.lookup(&any);
}

/* Pick a backend at random. Twice: the group may be replaced between reading the destination and its backend. */
static inline bool pick(struct address *to)
{
    struct address asked = *to;
    for (int attempt = 0; attempt < 2; attempt++) {
        struct destination *destination = known(&asked);
        if (!destination || !destination->backends)
            return false;
        struct backend_key key = {.group = destination->group};
        key.index = bpf_get_prandom_u32() % destination->backends;
        struct address *backend = backends.lookup(&key);
        if (backend) {
            *to = *backend;
            return true;
        }
    }
    return false;
}

static inline bool write_note(struct bpf_sock *sk, u32 kind, const struct address *address)
{
    struct note *note = notes.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!note)
        return false;
    note->address = *address;
    note->kind = kind;
    return true;
}

/* No living worker: what the pod's fail mode promises. */
static inline int without_worker(struct bpf_sock *sk, u32 slot, u32 flags, u32 kind, struct route *route)
{
    struct address asked = route->to;
    if (flags & POD_CLOSED) {
        count(slot, REASON_CLOSED_REFUSED);
        return DENY;
    }
    if (kind == DESTINATION_TUNNEL) {
        count(slot, REASON_TUNNEL_REFUSED);
        return DENY;
    }
    if (kind != DESTINATION_SERVICE) {
        count(slot, REASON_OPEN_DIRECT);
        return PASS;
    }
    if (!pick(&route->to)) {
        count(slot, REASON_BACKEND_MISSING);
        return DENY;
    }
    if (!write_note(sk, NOTE_DIRECT, &asked))
        count(slot, REASON_NOTE_FAILED);
    count(slot, REASON_OPEN_BALANCED);
    return PASS;
}

/* Our own socket: when it carries a client on into its pod, every client gets a source, and with it a port space, of its own. */
static inline int ours(const struct note *note, struct route *route)
{
    const u32 *client = note->address.ip;
    if (note->address.port && is_ip4(route->to.ip))
        set_ip4(route->source, loopback_of(((u64)client[2] << 32 | client[3]) ^ ((u64)client[0] << 32 | client[1])));
    return PASS;
}

static inline int capture(struct bpf_sock_addr *ctx, struct bpf_sock *sk, const struct pod *pod, struct route *route)
{
    if (is_ip4(route->to.ip)) {
        set_ip4(route->source, pod->ip4);
        set_ip4(route->to.ip, loopback_of(bpf_get_socket_cookie(ctx)));
    } else {
        __builtin_memcpy(route->source, pod->ip6, sizeof(route->source));
        route->to.ip[0] = route->to.ip[1] = route->to.ip[2] = 0;
        route->to.ip[3] = bpf_htonl(1);
    }
    route->to.port = OUTBOUND_PORT;
    return PASS;
}

/* Whether an address that is not known may be one behind which a tunnel ought to be used. */
static inline bool overflown(void)
{
    u32 which = SETTING_LEFT_OUT;
    u64 *left_out = settings.lookup(&which);
    return left_out && *left_out;
}

/* Whose it is only a hook in the process's own call can tell; sockops knows the whole tuple. */
static inline int outside(struct bpf_sock *sk, const struct route *route)
{
    u64 cgroup = kubelet();
    if (cgroup && cgroup == bpf_get_current_cgroup_id())
        write_note(sk, NOTE_KUBELET, &route->to); /* without memory for it one probe fails */
    return PASS;
}

static inline int judge(struct bpf_sock_addr *ctx, struct bpf_sock *sk, struct route *route)
{
    u64 netns = bpf_get_netns_cookie(ctx);
    u32 *found = slots.lookup(&netns);
    if (!found)
        return outside(sk, route);
    u32 slot = route->slot = *found;
    struct pod *pod = pods.lookup(&slot);
    if (!pod || !(pod->flags & POD_ENROLLED))
        return PASS;
    struct note *note = notes.sk_storage_get(sk, 0, 0);
    if (note && note->kind == NOTE_OURS)
        return ours(note, route);
    if (note)
        note->kind = NOTE_NONE; /* what an earlier, failed connect of this socket asked for */

    int reason = untouchable(route->to.ip);
    if (reason < 0 && skipped(slot, OUTBOUND, route->to.port))
        reason = REASON_DIRECT_SKIPPED;
    struct destination *destination = 0;
    if (reason < 0) {
        destination = known(&route->to);
        if (!destination && overflown())
            reason = REASON_DIRECT_OVERFLOW;
        else if (sk->bound_dev_if)
            reason = REASON_DIRECT_DEVICE;
        else if (!destination)
            reason = REASON_DIRECT_UNKNOWN;
        else if (!(pod->flags & (is_ip4(route->to.ip) ? POD_IP4 : POD_IP6)))
            reason = REASON_DIRECT_NO_FAMILY;
    }
    if (reason >= 0 && destination && destination->kind == DESTINATION_TUNNEL) {
        count(slot, REASON_TUNNEL_REFUSED); /* binding to a device is everybody's right, but no way around a tunnel */
        return DENY;
    }
    if (reason == REASON_DIRECT_OVERFLOW && pod->flags & POD_STRICT) {
        count(slot, REASON_OVERFLOW_REFUSED);
        return DENY;
    }
    if (reason >= 0 || !destination) {
        count(slot, reason);
        return PASS;
    }
    if (destination->kind == DESTINATION_EMPTY) {
        count(slot, REASON_REFUSED_EMPTY);
        return DENY;
    }
    if (!alive(slot))
        return without_worker(sk, slot, pod->flags, destination->kind, route);
    if (!write_note(sk, NOTE_CAPTURED, &route->to)) {
        count(slot, REASON_NOTE_FAILED);
        return without_worker(sk, slot, pod->flags, destination->kind, route);
    }
    count(slot, REASON_CAPTURED);
    return capture(ctx, sk, pod, route);
}

int connect4(struct bpf_sock_addr *ctx)
{
    struct bpf_sock *sk = ctx->sk;
    if (!sk || ctx->protocol != IPPROTO_TCP)
        return PASS;
    struct route route = {};
    set_ip4(route.to.ip, ctx->user_ip4);
    route.to.port = bpf_ntohs((u16)ctx->user_port);
    if (judge(ctx, sk, &route) == DENY) {
        bpf_set_retval(REFUSED);
        return DENY;
    }
    if (route.source[3] && !sk->src_ip4) {
        struct sockaddr_in source = {.sin_family = FAMILY_IP4, .sin_addr.s_addr = route.source[3]};
        if (bpf_bind(ctx, (struct sockaddr *)&source, sizeof(source)))
            count(route.slot, REASON_SOURCE_UNBOUND); /* the app has bound a port: see as_pod */
    }
    ctx->user_ip4 = route.to.ip[3];
    apart();
    ctx->user_port = bpf_htons(route.to.port);
    return PASS;
}

int connect6(struct bpf_sock_addr *ctx)
{
    struct bpf_sock *sk = ctx->sk;
    if (!sk || ctx->protocol != IPPROTO_TCP)
        return PASS;
    struct route route = {};
    route.to.ip[0] = ctx->user_ip6[0];
    route.to.ip[1] = ctx->user_ip6[1];
    route.to.ip[2] = ctx->user_ip6[2];
    route.to.ip[3] = ctx->user_ip6[3];
    route.to.port = bpf_ntohs((u16)ctx->user_port);
    if (judge(ctx, sk, &route) == DENY) {
        bpf_set_retval(REFUSED);
        return DENY;
    }
    if (route.source[3] && !(sk->src_ip6[0] | sk->src_ip6[1] | sk->src_ip6[2] | sk->src_ip6[3])) {
        struct sockaddr_in6 source = {.sin6_family = FAMILY_IP6};
        __builtin_memcpy(&source.sin6_addr, route.source, sizeof(route.source));
        if (bpf_bind(ctx, (struct sockaddr *)&source, sizeof(source)))
            count(route.slot, REASON_SOURCE_UNBOUND);
    }
    ctx->user_ip6[0] = route.to.ip[0];
    apart();
    ctx->user_ip6[1] = route.to.ip[1];
    apart();
    ctx->user_ip6[2] = route.to.ip[2];
    apart();
    ctx->user_ip6[3] = route.to.ip[3];
    apart();
    ctx->user_port = bpf_htons(route.to.port);
    return PASS;
}
