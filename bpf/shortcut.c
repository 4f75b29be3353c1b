/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * send() on a socket in the short-cut: the message goes straight into the peer's receive queue, past TCP. Attached to
 * the map `ends`, which sockops.c fills. Rules, each from a failure seen:
 * - The first message of each direction decides. A direction may change from short-cut to TCP, never back: the reader
 *   empties the queue of redirected messages before TCP's, so TCP's bytes would be overtaken.
 * - Redirected messages have no back-pressure, so there is a credit; beyond it TCP for good, which blocks as it should.
 * - Whatever is not as expected goes by TCP, which also gives the errors. This program never drops.
 * The kernel holds the sender's lock while it runs.
 */
#include "common.h"

static inline bool wanted(const struct shortcut *mine)
{
    u32 slot = mine->slot, which = SETTING_SHORTCUT;
    u64 *on = settings.lookup(&which);
    struct pod *pod = pods.lookup(&slot);
    return on && *on && pod && pod->netns == mine->netns && pod->flags & POD_SHORTCUT;
}

static inline void count_message(u32 slot, u32 bytes)
{
    struct counters *c = counters.lookup(&slot);
    if (!c)
        return;
    __sync_fetch_and_add(&c->count[REASON_SHORTCUT_MESSAGES], 1);
    __sync_fetch_and_add(&c->count[REASON_SHORTCUT_BYTES], bytes);
}

/* The reason why this message goes by TCP, or -1: it is redirected. */
static inline int redirect(struct sk_msg_md *ctx, struct bpf_sock *sk, struct shortcut *mine, struct lane *lane)
{
    if (!wanted(mine)) {
        lanes.delete(&mine->peer.pair); /* so that the peer stops too */
        return REASON_SHORTCUT_OFF;
    }
    if (!lane || !may_send(sk))
        return REASON_SHORTCUT_GONE;
    u32 bytes = ctx->size, peer = mine->peer.side & 1;
    if (lane->spent[1 - peer] + bytes + MESSAGE_BYTES > CREDIT_BYTES)
        return REASON_SHORTCUT_CREDIT;
    if (ends.msg_redirect_hash(ctx, &mine->peer, BPF_F_INGRESS) != SK_PASS)
        return mine->way == WAY_SHORT ? REASON_SHORTCUT_GONE : REASON_SHORTCUT_ABSENT;
    lane->spent[1 - peer] += bytes + MESSAGE_BYTES;
    count_message(mine->slot, bytes);
    return -1;
}

int shortcut(struct sk_msg_md *ctx)
{
    struct bpf_sock *sk = ctx->sk;
    struct shortcut *mine = sk ? shortcuts.sk_storage_get(sk, 0, 0) : 0;
    if (!mine)
        return SK_PASS;
    struct lane *lane = lanes.lookup(&mine->peer.pair);
    if (lane)
        lane->spent[mine->peer.side & 1] = 0; /* the peer hears from us, by whatever way */
    if (mine->way == WAY_TCP)
        return SK_PASS;
    int reason = redirect(ctx, sk, mine, lane);
    if (reason < 0) {
        mine->way = WAY_SHORT;
    } else {
        mine->way = WAY_TCP;
        count(mine->slot, reason);
    }
    return SK_PASS;
}
