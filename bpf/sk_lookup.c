/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A new TCP connection arrives at a pod: any port goes to our inbound listener inside the pod, where the accepted
 * socket's local address is the original destination and its peer the true client. Attached to one pod's netns.
 * Passes what is not TCP (else the pod's UDP dies), comes over loopback or from another program's lookup
 * (ingress_ifindex <= 1), or goes to a loopback address.
 */
#include "common.h"

/* The program cannot learn its netns: user space replaces this number by the pod's slot before it loads it. */
static inline u32 patched_slot(void)
{
    u64 slot;
    asm volatile("%0 = 0x5e1e0510 ll" : "=r"(slot)); /* mesh.capture.programs.SLOT_MARK */
    return slot;
}

static inline bool to_loopback(struct bpf_sk_lookup *ctx)
{
    struct address local = {};
    if (ctx->family == FAMILY_IP4) {
        set_ip4(local.ip, ctx->local_ip4);
    } else {
        local.ip[0] = ctx->local_ip6[0];
        local.ip[1] = ctx->local_ip6[1];
        local.ip[2] = ctx->local_ip6[2];
        local.ip[3] = ctx->local_ip6[3];
    }
    return is_loopback(local.ip);
}

static inline int inbound_without_worker(u32 slot, const struct pod *pod)
{
    if (pod->flags & POD_CLOSED) {
        count(slot, REASON_INBOUND_CLOSED);
        return SK_DROP; /* the kernel answers with a reset */
    }
    count(slot, REASON_INBOUND_OPEN);
    return SK_PASS;
}

int sk_lookup(struct bpf_sk_lookup *ctx)
{
    if (ctx->protocol != IPPROTO_TCP || ctx->ingress_ifindex <= 1 || to_loopback(ctx))
        return SK_PASS;
    u32 slot = patched_slot(), index = slot * 2 + INBOUND;
    struct pod *pod = pods.lookup(&slot);
    if (!pod || !(pod->flags & POD_ENROLLED))
        return SK_PASS;
    if (skipped(slot, INBOUND, ctx->local_port)) {
        count(slot, REASON_INBOUND_SKIPPED);
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
