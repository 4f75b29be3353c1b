/* Bytes from one leg to the other: read a block when the other side can take it, try to send it at once, and wait for
 * room only when that is refused. */
#include "core.h"

static void account(struct session *s, const struct leg *from, size_t sent)
{
    if (from == &s->client) {
        s->request_bytes += sent;
        s->carried->request_bytes += sent;
    } else {
        s->response_bytes += sent;
        s->carried->response_bytes += sent;
    }
}

/* true: all of it is gone. After an error the other leg is still read: its last words came before its reset. */
static bool leg_send(struct engine *e, struct leg *from, struct leg *to)
{
    struct block *block = from->rx;
    size_t left = block->end - block->start;
    if (to->stream && leg_give(e, from, to)) {
        account(from->session, from, left);
        from->session->active_ns = e->now;
        return true;
    }
    ssize_t sent = leg_write(e, to, block->bytes + block->start, left);
    if (sent < 0) {
        if (to->shut)
            leg_drop(e, from);
        return false;
    }
    account(from->session, from, (size_t)sent);
    from->session->active_ns = e->now;
    block->start += (uint32_t)sent;
    if ((size_t)sent < left)
        return false;
    leg_drop(e, from);
    return true;
}

void leg_flow(struct engine *e, struct leg *from, struct leg *to)
{
    for (int turn = 0; turn < FLOW_TURNS; turn++) {
        if (!from->rx && !to->shut)
            leg_fill(e, from);
        if (!from->rx)
            return;
        bool full = from->rx->end >= BLOCK_READ;
        if (!leg_send(e, from, to) || !full)
            return;
    }
}
