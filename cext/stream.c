/* The two queues of a stream, its leg's interest, and what is told to it. The contract is in stream.h. */
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "h2.h"

#define ENDINGS (EPOLLERR | EPOLLHUP)

/* ---- what is told ---- */

static uint32_t level(const struct stream *st)
{
    uint32_t now = st->broken ? EPOLLIN | ENDINGS : 0;
    if (st->open && (st->in || st->in_end))
        now |= EPOLLIN;
    if (st->in_end)
        now |= EPOLLRDHUP;
    if (st->open && !st->full)
        now |= EPOLLOUT;
    return now;
}

static void tell(struct engine *e, struct stream *st, uint32_t events)
{
    events &= st->wanted | ENDINGS;
    if (!st->leg || !events)
        return;
    st->events |= events;
    if (list_empty(&st->told))
        list_push(&e->streams_told, &st->told);
}

/* Level-triggered: what is so now is told as often as it is wanted. Edge-triggered: when the interest changes. */
void stream_want(struct engine *e, struct stream *st, uint32_t wanted)
{
    bool anew = !(wanted & EPOLLET) || wanted != st->wanted;
    st->wanted = wanted;
    if (anew)
        tell(e, st, level(st) & (wanted ? ~0u : ~(uint32_t)ENDINGS));
}

static void dispatch(struct engine *e, struct stream *st)
{
    struct leg *leg = st->leg;
    uint32_t events = st->events & (st->wanted | ENDINGS);
    st->events = 0;
    if (!leg || !events)
        return;
    if (leg->session)
        session_event(e, leg, events);
    else
        pool_event(e, container_of(leg, struct upstream, leg));
}

uint32_t streams_tell(struct engine *e)
{
    struct list all, *link;
    uint32_t count = 0;
    for (list_move(&e->streams_told, &all); (link = list_shift(&all)); count++)
        dispatch(e, container_of(link, struct stream, told));
    return count;
}

/* ---- for the connection ---- */

struct stream *stream_new(struct h2 *h2)
{
    struct stream *st = calloc(1, sizeof *st);
    if (!st)
        return NULL;
    st->h2 = h2;
    list_init(&st->told);
    list_init(&st->gone);
    list_push(&h2->streams, &st->all);
    h2->stream_count++;
    return st;
}

static void hold(struct stream *st, int32_t bytes)
{
    st->in_bytes += (uint32_t)bytes;
    if (st->h2)
        st->h2->held += (uint64_t)(int64_t)bytes;
}

static void drop_in(struct engine *e, struct stream *st)
{
    hold(st, -(int32_t)st->in_bytes);
    while (st->in) {
        struct block *block = st->in;
        st->in = block->next;
        block_put(e, block);
    }
}

static void drop_out(struct engine *e, struct stream *st)
{
    if (st->out)
        block_put(e, st->out);
    st->out = NULL;
}

static void stream_free(struct engine *e, struct stream *st)
{
    drop_in(e, st);
    drop_out(e, st);
    list_remove(&st->told);
    list_remove(&st->gone);
    free(st->head);
    free(st);
}

void stream_open(struct engine *e, struct stream *st)
{
    st->open = true;
    tell(e, st, level(st));
}

static bool add_block(struct engine *e, struct stream *st)
{
    struct block *block = block_get(e);
    if (!block)
        return false;
    block->next = NULL;
    if (st->in)
        st->in_last->next = block;
    else
        st->in = block;
    st->in_last = block;
    return true;
}

bool stream_receive(struct engine *e, struct stream *st, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        if ((!st->in || st->in_last->end >= BLOCK_READ) && !add_block(e, st))
            return false;
        struct block *last = st->in_last;
        size_t some = BLOCK_READ - last->end < length ? BLOCK_READ - last->end : length;
        memcpy(last->bytes + last->end, bytes, some);
        last->end += (uint32_t)some;
        hold(st, (int32_t)some);
        bytes += some;
        length -= some;
    }
    tell(e, st, EPOLLIN);
    return true;
}

void stream_receive_end(struct engine *e, struct stream *st)
{
    st->in_end = true;
    tell(e, st, EPOLLIN | EPOLLRDHUP);
}

void stream_break(struct engine *e, struct stream *st, int error)
{
    if (st->broken)
        return;
    st->broken = true;
    st->error = error;
    if (error == ENOBUFS) /* it is ended for what it holds */
        drop_in(e, st);
    drop_out(e, st);
    tell(e, st, EPOLLIN | ENDINGS);
}

void stream_unheld(struct engine *e, struct stream *st)
{
    list_remove(&st->all);
    list_remove(&st->gone);
    if (st->h2) {
        st->h2->stream_count--;
        st->h2->held -= st->in_bytes;
    }
    st->h2 = NULL;
    if (!st->leg)
        stream_free(e, st);
}

void stream_sent(struct engine *e, struct stream *st, uint32_t bytes)
{
    st->out->start += bytes;
    if (st->out->start < st->out->end)
        return;
    drop_out(e, st);
    if (!st->full)
        return;
    st->full = false;
    tell(e, st, EPOLLOUT);
}

/* ---- for legs ---- */

void stream_hold(struct stream *st, struct leg *leg)
{
    list_remove(&st->gone);
    st->leg = leg;
    leg->stream = st;
    leg->watch.fd = -1;
}

static uint32_t take(struct engine *e, struct stream *st, struct leg *leg)
{
    struct block *first = st->in;
    uint32_t some = first->end - first->start;
    if (!leg->rx) {
        st->in = first->next;
        leg->rx = first;
        return some;
    }
    uint32_t room = BLOCK_READ - leg->rx->end;
    some = some < room ? some : room;
    memcpy(leg->rx->bytes + leg->rx->end, first->bytes + first->start, some);
    leg->rx->end += some;
    first->start += some;
    if (first->start == first->end) {
        st->in = first->next;
        block_put(e, first);
    }
    return some;
}

void stream_fill(struct engine *e, struct stream *st, struct leg *leg)
{
    if (st->in) {
        uint32_t some = take(e, st, leg);
        hold(st, -(int32_t)some);
        leg->session->active_ns = e->now;
        if (st->h2)
            h2_credit(st, some);
    } else if (st->broken) {
        leg->ended = leg->reset = true;
    } else if (st->in_end) {
        leg->ended = true;
    }
    leg->readable = !leg->ended && (st->in || st->broken || st->in_end);
}

/* What can be written goes to a block of its own, whose first bytes may not move any more: they may be promised to
 * nghttp2 already. */
ssize_t stream_write(struct engine *e, struct stream *st, const uint8_t *bytes, size_t length)
{
    if (st->broken || st->out_end || !st->h2) {
        errno = EPIPE;
        return -1;
    }
    if (!st->out && !(st->out = block_lend(e))) {
        errno = ENOMEM;
        return -1;
    }
    size_t room = BLOCK_READ - st->out->end, some = length < room ? length : room;
    memcpy(st->out->bytes + st->out->end, bytes, some);
    st->out->end += (uint32_t)some;
    st->full = some < length;
    h2_wake(st);
    if (some > 0)
        return (ssize_t)some;
    errno = EAGAIN;
    return -1;
}

bool stream_adopt(struct engine *e, struct stream *st, struct block *block)
{
    (void)e;
    if (st->out || st->broken || st->out_end || !st->h2)
        return false;
    st->out = block;
    st->full = false;
    h2_wake(st);
    return true;
}

ssize_t stream_discard(struct engine *e, struct stream *st)
{
    struct block *first = st->in;
    if (!first) {
        errno = EAGAIN;
        return st->in_end || st->broken ? 0 : -1;
    }
    uint32_t some = first->end - first->start;
    st->in = first->next;
    hold(st, -(int32_t)some);
    block_put(e, first);
    if (st->h2)
        h2_credit(st, some);
    return some;
}

void stream_shut(struct engine *e, struct stream *st)
{
    (void)e;
    st->out_end = true;
    if (st->h2)
        h2_wake(st);
}

/* Its last words are still sent; after them it waits for the peer's, and not for long (h2_sweep). */
void stream_leave(struct engine *e, struct stream *st, bool reset)
{
    st->leg = NULL;
    list_remove(&st->told);
    drop_in(e, st);
    if (!st->h2) {
        stream_free(e, st);
        return;
    }
    st->left_ns = e->now;
    st->out_end = true;
    list_push(&st->h2->gone, &st->gone);
    h2_leave(e, st, reset);
}
