/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TCP events, on the cgroup root: carries notes, writes down kubelet's connections, lets sockets into the short-cut.
 *
 * Notes go from a client's socket to the socket that its connection is accepted as, in the same namespace. A note is
 * published before the SYN leaves and taken when the handshake ends, which is before accept() can return the socket.
 * Every connect inside an enrolled pod overwrites or deletes the entry of its own tuple, so an old entry never speaks
 * for a new connection.
 *
 * The short-cut (shortcut.c) takes both ends of a connection within this node, if each is in the namespace of a pod
 * that asks for it: an app's socket or one of ours. Each end enters by itself, under a name that both can tell from
 * what they know when the handshake is over (struct pair); an end that is alone there goes by TCP. Nothing is ever
 * taken out: the kernel removes a socket when it is closed, and removing an open one would lose what it has not read.
 *
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

/*
 * Kubelet begins a connection, or somebody else who is in no pod of ours and may have taken over a tuple of its. By the
 * connection, never by its source address: what is masqueraded on the node has that too.
 */
static inline void vouch(struct bpf_sock_ops *ctx, const struct note *note)
{
    struct probe probe = {};
    u64 now = bpf_ktime_get_ns();
    read_tuple(ctx, &probe.client, &probe.server);
    if (note && note->kind == NOTE_KUBELET)
        probes.update(&probe, &now);
    else
        probes.delete(&probe);
}

static inline void publish(struct bpf_sock_ops *ctx)
{
    struct flow flow = {.netns = bpf_get_netns_cookie(ctx)};
    u32 *slot = slots.lookup(&flow.netns);
    struct bpf_sock *sk = ctx->sk;
    if (!sk || (!slot && !kubelet()))
        return;
    struct note *note = notes.sk_storage_get(sk, 0, 0), copy = {.kind = told(note)};
    if (!slot) {
        vouch(ctx, note);
        return;
    }
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

/* The slot of a pod that has the short-cut, or -1. */
static inline int shortcut_slot(u64 netns)
{
    u32 which = SETTING_SHORTCUT;
    u64 *on = settings.lookup(&which);
    u32 *slot = on && *on ? slots.lookup(&netns) : 0;
    struct pod *pod = slot ? pods.lookup(slot) : 0;
    return pod && pod->flags & POD_SHORTCUT ? *slot : -1;
}

/* The namespace in which a socket with this address must be, seen from namespace `here`; 0: none that we know. */
static inline u64 home(const struct address *address, u64 here)
{
    struct address host = *address;
    host.port = 0;
    u64 *netns = is_loopback(host.ip) ? &here : homes.lookup(&host);
    return netns ? *netns : 0;
}

/* Who this socket is connected with, as both ends see it; false: not within this node, or not by the book. */
static inline bool find_peer(struct bpf_sock_ops *ctx, u64 netns, u32 side, struct end *peer)
{
    struct pair *pair = &peer->pair;
    if (side == SIDE_CLIENT) {
        read_tuple(ctx, &pair->client, &pair->server);
        pair->client_number = ctx->snd_nxt;
        pair->server_number = ctx->rcv_nxt;
    } else {
        read_tuple(ctx, &pair->server, &pair->client);
        pair->client_number = ctx->rcv_nxt;
        pair->server_number = ctx->snd_nxt;
    }
    pair->client_netns = home(&pair->client, netns);
    pair->server_netns = home(&pair->server, netns);
    peer->side = 1 - side;
    u64 own = side == SIDE_CLIENT ? pair->client_netns : pair->server_netns;
    return own == netns && pair->client_netns && pair->server_netns; /* nobody may claim another pod's address */
}

/*
 * Enter the short-cut. The kernel tells us of a close (the lane ends), and, of a client, when TCP sends: somebody may
 * sleep in send() since before the connection was there, whose bytes no program sees and nobody may overtake.
 */
static inline void enter(struct bpf_sock_ops *ctx, struct bpf_sock *sk, struct shortcut *mine)
{
    struct end self = mine->peer;
    struct lane fresh = {};
    self.side = 1 - self.side;
    lanes.insert(&self.pair, &fresh);
    long failed = ends.sock_hash_update(ctx, &self, BPF_NOEXIST); /* bcc rewrites it to a statement */
    if (failed) {
        mine->way = WAY_TCP;
        lanes.delete(&self.pair);
        count(mine->slot, REASON_SHORTCUT_UNJOINED);
        return;
    }
    u32 flags = ctx->bpf_sock_ops_cb_flags, all = flags | BPF_SOCK_OPS_STATE_CB_FLAG;
    if (self.side == SIDE_CLIENT)
        all |= BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
    mine->watched = (all & ~flags) & BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;
    bpf_sock_ops_cb_flags_set(ctx, all);
    count(mine->slot, REASON_SHORTCUT_JOINED);
}

static inline void join(struct bpf_sock_ops *ctx, u32 side)
{
    struct end peer = {};
    u64 netns = bpf_get_netns_cookie(ctx);
    int slot = shortcut_slot(netns);
    struct bpf_sock *sk = ctx->sk;
    if (slot < 0 || !sk || !find_peer(ctx, netns, side, &peer))
        return;
    if (side == SIDE_CLIENT && (ctx->snd_una != ctx->snd_nxt || ctx->bytes_acked > 1)) { /* bytes went with the SYN */
        count(slot, REASON_SHORTCUT_EARLY);
        return;
    }
    struct shortcut *mine = shortcuts.sk_storage_get(sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!mine) {
        count(slot, REASON_SHORTCUT_UNJOINED);
        return;
    }
    mine->peer = peer;
    mine->netns = netns;
    mine->slot = slot;
    enter(ctx, sk, mine);
}

/* TCP is about to send on a socket in the short-cut, or to acknowledge. */
static inline void notice_sending(struct bpf_sock_ops *ctx)
{
    struct bpf_sock *sk = ctx->sk;
    struct shortcut *mine = sk ? shortcuts.sk_storage_get(sk, 0, 0) : 0;
    if (!mine || !mine->watched)
        return;
    if (mine->way == WAY_UNDECIDED) {
        if (ctx->args[0] != BPF_WRITE_HDR_TCP_CURRENT_MSS) /* a bare acknowledgement asks for no size */
            return;
        mine->way = WAY_TCP;
        if (may_send(sk)) /* else it is the FIN of a socket that never sent */
            count(mine->slot, REASON_SHORTCUT_EARLY);
    }
    mine->watched = 0;
    bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

static inline void leave(struct bpf_sock_ops *ctx)
{
    struct bpf_sock *sk = ctx->sk;
    struct shortcut *mine = sk && ctx->args[1] == BPF_TCP_CLOSE ? shortcuts.sk_storage_get(sk, 0, 0) : 0;
    if (mine)
        lanes.delete(&mine->peer.pair);
}

int sockops(struct bpf_sock_ops *ctx)
{
    switch (ctx->op) {
    case BPF_SOCK_OPS_TCP_CONNECT_CB:
        publish(ctx);
        break;
    case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
        join(ctx, SIDE_CLIENT);
        break;
    case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
        receive(ctx);
        join(ctx, SIDE_SERVER);
        break;
    case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
        notice_sending(ctx);
        break;
    case BPF_SOCK_OPS_STATE_CB:
        leave(ctx);
        break;
    }
    return 1;
}
