/* Bytes from one leg to the other: read a block when the other side can take it, try to send it at once, and wait for
 * room only when that is refused. A leg that has sent nothing, or whose bytes are all gone, holds no block. */
#include <errno.h>
#include <sys/socket.h>

#include "core.h"

void leg_drop(struct engine *e, struct leg *leg)
{
    if (leg->rx)
        block_put(e, leg->rx);
    leg->rx = NULL;
}

static void leg_starve(struct engine *e, struct leg *leg)
{
    leg->starved = true;
    if (list_empty(&leg->session->queued)) /* else it waits for something before it needs a block */
        list_push(&e->sessions.starved, &leg->session->queued);
}

void leg_fill(struct engine *e, struct leg *leg)
{
    if (leg->ended)
        return;
    if (!leg->rx && !(leg->rx = block_get(e))) {
        leg_starve(e, leg);
        return;
    }
    struct block *block = leg->rx;
    size_t room = block->end < BLOCK_READ ? BLOCK_READ - block->end : 0;
    if (room == 0)
        return;
    ssize_t got = recv(leg->watch.fd, block->bytes + block->end, room, 0);
    if (got > 0) {
        block->end += (uint32_t)got;
        leg->session->active_ns = e->now;
        leg->readable = leg->hangup || (size_t)got == room;
    } else if (got == 0) {
        leg->ended = true;
    } else if (errno == EAGAIN) {
        leg->readable = false;
    } else if (errno != EINTR) {
        leg->ended = leg->reset = true;
    }
    if (block->end == block->start)
        leg_drop(e, leg);
}

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

ssize_t leg_write(struct engine *e, struct leg *leg, const uint8_t *bytes, size_t length)
{
    ssize_t sent = send(leg->watch.fd, bytes, length, MSG_NOSIGNAL);
    if (sent >= 0) {
        leg->full = (size_t)sent < length;
        leg_moves(leg);
    } else if (errno == EAGAIN || errno == EINTR) {
        leg->full = true;
    } else {
        leg->reset = leg->shut = true;
    }
    if (leg->full)
        leg_stuck(e, leg);
    return sent;
}

/* true: all of it is gone. After an error the other leg is still read: its last words came before its reset. */
static bool leg_send(struct engine *e, struct leg *from, struct leg *to)
{
    struct block *block = from->rx;
    size_t left = block->end - block->start;
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
