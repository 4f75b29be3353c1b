/* A leg is a socket or a stream of an HTTP/2 connection; here is what is done to both alike. A leg that has sent nothing,
 * or whose bytes are all gone, holds no block. */
#include <errno.h>
#include <sys/socket.h>

#include "core.h"
#include "stream.h"

#define DISCARD_BYTES 16384

int leg_watch(struct engine *e, struct leg *leg, uint32_t wanted)
{
    if (!leg->stream)
        return watch_set(e, &leg->watch, wanted);
    stream_want(e, leg->stream, wanted);
    leg->watch.wanted = wanted;
    return 0;
}

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

static void fill_from_socket(struct engine *e, struct leg *leg)
{
    if (!leg->rx && !(leg->rx = block_get(e))) {
        leg_starve(e, leg);
        return;
    }
    struct block *block = leg->rx;
    size_t room = BLOCK_READ - block->end;
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

void leg_fill(struct engine *e, struct leg *leg)
{
    if (leg->ended || !leg_has_room(leg))
        return;
    if (leg->stream)
        stream_fill(e, leg->stream, leg);
    else
        fill_from_socket(e, leg);
}

ssize_t leg_write(struct engine *e, struct leg *leg, const uint8_t *bytes, size_t length)
{
    ssize_t sent = leg->stream ? stream_write(e, leg->stream, bytes, length)
                               : send(leg->watch.fd, bytes, length, MSG_NOSIGNAL);
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

bool leg_give(struct engine *e, struct leg *from, struct leg *to)
{
    if (!stream_adopt(e, to->stream, from->rx))
        return false;
    from->rx = NULL;
    to->full = false;
    leg_moves(to);
    return true;
}

ssize_t leg_discard(struct engine *e, struct leg *leg)
{
    uint8_t bytes[DISCARD_BYTES];
    return leg->stream ? stream_discard(e, leg->stream) : recv(leg->watch.fd, bytes, sizeof bytes, 0);
}

void leg_shut(struct engine *e, struct leg *leg)
{
    leg->shut = true;
    if (leg->stream)
        stream_shut(e, leg->stream);
    else
        shutdown(leg->watch.fd, SHUT_WR);
}

void leg_close(struct engine *e, struct leg *leg, bool reset)
{
    leg_drop(e, leg);
    leg_moves(leg);
    if (leg->stream) {
        stream_leave(e, leg->stream, reset);
        leg->stream = NULL;
    }
    if (leg->watch.fd < 0)
        return;
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (reset)
        setsockopt(leg->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    watch_close(e, &leg->watch, leg->shared);
}
