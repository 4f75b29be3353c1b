/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * socket() in the fixed cgroup: the socket is ours, for life and whoever uses it later. This is the loop guard, so
 * a socket that cannot be marked is not made at all. (Accepted sockets are not created here and carry no mark.)
 */
#include "common.h"

int sock_create(struct bpf_sock *ctx)
{
    struct note *note = notes.sk_storage_get(ctx, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!note)
        return DENY;
    note->kind = NOTE_OURS;
    return PASS;
}
