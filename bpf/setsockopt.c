/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * setsockopt(SEINE_SOL, SEINE_TRUE_CLIENT, struct sockaddr_in6) in the fixed cgroup: notes on one of our sockets
 * whose connection it is about to carry on. Any other option goes to the kernel with the caller's own bytes.
 */
#include "common.h"

int set_sockopt(struct bpf_sockopt *ctx)
{
    if (ctx->level != SEINE_SOL || ctx->optname != SEINE_TRUE_CLIENT) {
        ctx->optlen = 0; /* "use the original data": also right for values beyond a page, which BPF does not see whole */
        return PASS;
    }
    struct bpf_sock *sk = ctx->sk;
    struct sockaddr_in6 *client = ctx->optval;
    if (!sk || (void *)(client + 1) > ctx->optval_end || client->sin6_family != FAMILY_IP6)
        return DENY;
    struct note *note = notes.sk_storage_get(sk, 0, 0);
    if (!note || note->kind != NOTE_OURS)
        return DENY;
    __builtin_memcpy(note->address.ip, &client->sin6_addr, sizeof(note->address.ip));
    note->address.port = bpf_ntohs(client->sin6_port);
    ctx->optlen = -1; /* handled: the kernel's own code is not called */
    return PASS;
}
