/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A new TCP connection arrives at a pod: any port goes to our inbound listener inside the pod, where the accepted
 * socket's local address is the original destination and its peer the true client. Attached to one pod's netns.
 * Passes what is not TCP (else the pod's UDP dies), what another BPF program looks up (ingress_ifindex 0), what comes
 * from the pod itself, which is also how a worker reaches the app, and what kubelet has begun.
 */
#include "common.h"

/* The program cannot learn its netns: user space replaces this number by the pod's slot before it loads it. */
static inline u32 patched_slot(void)
{
    u64 slot;
    asm volatile("%0 = 0x5e1e0510 ll" : "=r"(slot)); /* mesh.capture.programs.SLOT_MARK */
    return slot;
}

static inline void read_addresses(struct bpf_sk_lookup *ctx, u32 *local, u32 *remote)
{
    if (ctx->family == FAMILY_IP4) {
        set_ip4(local, ctx->local_ip4);
        set_ip4(remote, ctx->remote_ip4);
        apart();
    } else {
        local[0] = ctx->local_ip6[0];
        local[1] = ctx->local_ip6[1];
        local[2] = ctx->local_ip6[2];
        local[3] = ctx->local_ip6[3];
        remote[0] = ctx->remote_ip6[0];
        remote[1] = ctx->remote_ip6[1];
        remote[2] = ctx->remote_ip6[2];
        remote[3] = ctx->remote_ip6[3];
        apart();
    }
}

static inline bool same(const u32 *a, const u32 *b)
{
    return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

/*
 * The pod talks to itself. The interface does not tell: the kernel calls a packet to eth0's address that came over
 * lo one of eth0. But nobody outside has a loopback address, the pod's, or the one that was connected to.
 */
static inline bool from_inside(struct bpf_sk_lookup *ctx, const struct pod *pod)
{
    u32 local[4] = {}, remote[4] = {};
    read_addresses(ctx, local, remote);
    if (is_loopback(local) || is_loopback(remote) || same(local, remote))
        return true;
    return is_ip4(remote) ? remote[3] == pod->ip4 : same(remote, pod->ip6);
}

/* Begun by this node's kubelet a moment ago (sockops wrote it down): it must learn how the pod is, come what may. */
static inline bool from_kubelet(struct bpf_sk_lookup *ctx)
{
    struct probe probe = {};
    if (!kubelet())
        return false;
    read_addresses(ctx, probe.server.ip, probe.client.ip);
    probe.server.port = ctx->local_port;
    probe.client.port = bpf_ntohs((u16)ctx->remote_port);
    u64 *begun = probes.lookup(&probe);
    return begun && bpf_ktime_get_ns() - *begun < PROBE_SECONDS_MAX * 1000000000ULL;
}

static inline int inbound_without_worker(u32 slot, const struct pod *pod)
{
    if (pod->flags & POD_CLOSED) {
        count(slot, REASON_INBOUND_CLOSED);
        return SK_DROP; /* the kernel answers with a reset */
    }
    if (pod->flags & POD_STRICT) {
        count(slot, REASON_INBOUND_STRICT);
        return SK_DROP;
    }
    count(slot, REASON_INBOUND_OPEN);
    return SK_PASS;
}

int sk_lookup(struct bpf_sk_lookup *ctx)
{
    if (ctx->protocol != IPPROTO_TCP || ctx->ingress_ifindex <= 1)
        return SK_PASS;
    u32 slot = patched_slot(), index = slot * 2 + INBOUND;
    struct pod *pod = pods.lookup(&slot);
    if (!pod || !(pod->flags & POD_ENROLLED) || from_inside(ctx, pod))
        return SK_PASS;
    if (skipped(slot, INBOUND, ctx->local_port)) {
        count(slot, REASON_INBOUND_SKIPPED);
        return SK_PASS;
    }
    if (from_kubelet(ctx)) {
        count(slot, REASON_INBOUND_KUBELET);
        return SK_PASS;
    }
    if (!beating())
        return inbound_without_worker(slot, pod);
    struct bpf_sock *listener = (struct bpf_sock *)listeners.lookup(&index);
    if (!listener)
        return inbound_without_worker(slot, pod);
    long failed = bpf_sk_assign(ctx, listener, 0);
    bpf_sk_release(listener);
    if (failed) /* a listener that cannot take this family */
        return inbound_without_worker(slot, pod);
    count(slot, REASON_INBOUND_CAPTURED);
    return SK_PASS;
}
