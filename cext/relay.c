/* One direction of an exchange: bytes read, judged and sent. Common to requests and responses. */
#include <stdlib.h>
#include <string.h>

#include "exchange.h"

void lane_open(struct lane *lane, const struct http1_head *head)
{
    lane->framing = head->framing;
    lane->left = head->content_length;
}

int lane_judge(struct lane *lane, const struct block *block)
{
    uint32_t some = block->end - lane->cleared;
    switch (lane->framing) {
    case HTTP1_LENGTH:
        if (some > lane->left)
            some = (uint32_t)lane->left;
        lane->left -= some;
        lane->cleared += some;
        lane->done = lane->left == 0;
        return 0;
    case HTTP1_CHUNKED: {
        ptrdiff_t got = http1_chunked(&lane->chunked, block->bytes + lane->cleared, some);
        if (got < 0)
            return (int)got;
        lane->cleared += (uint32_t)got;
        lane->done = lane->chunked.done;
        return 0;
    }
    case HTTP1_UNTIL_CLOSE:
        lane->cleared += some;
        return 0;
    default:
        lane->done = true;
        return 0;
    }
}

int lane_more(struct engine *e, struct lane *lane, struct leg *from)
{
    uint32_t before = from->rx ? from->rx->end : 0;
    leg_fill(e, from);
    if (!from->rx || from->rx->end == before)
        return 0;
    if (before == 0)
        lane->at = lane->cleared = 0;
    int refused = lane_judge(lane, from->rx);
    return refused < 0 ? refused : 1;
}

static void consume(struct engine *e, struct lane *lane, struct leg *from)
{
    from->rx->start = lane->at;
    if (lane->at == from->rx->end)
        leg_drop(e, from);
}

bool lane_send(struct engine *e, struct session *s, struct lane *lane, struct leg *from, struct leg *to)
{
    bool request = from == &s->client;
    uint32_t left = lane->cleared - lane->at;
    ssize_t sent = leg_write(e, to, from->rx->bytes + lane->at, left);
    if (to->full && !(to->watch.wanted & EPOLLOUT))
        leg_watch(e, to, LEG_EVENTS | EPOLLOUT);
    if (sent <= 0)
        return false;
    uint32_t of_head = sent < lane->head_left ? (uint32_t)sent : lane->head_left;
    lane->head_left -= of_head;
    lane->body_bytes += (uint32_t)sent - of_head;
    *(request ? &s->request_bytes : &s->response_bytes) += (uint32_t)sent - of_head;
    lane->at += (uint32_t)sent;
    lane->sent += (uint32_t)sent;
    s->active_ns = e->now;
    if (!(request && s->exchange->held))
        consume(e, lane, from);
    return sent == left;
}

void request_release(struct engine *e, struct session *s)
{
    struct exchange *x = s->exchange;
    x->held = false;
    if (s->client.rx)
        consume(e, &x->request, &s->client);
}

void request_rewind(struct session *s)
{
    struct lane *lane = &s->exchange->request;
    lane->at = s->client.rx->start;
    lane->sent = lane->body_bytes = 0;
    lane->head_left = s->exchange->head_bytes;
    s->exchange->held = false;
    s->exchange->sent_ns = 0;
}

enum step request_relay(struct engine *e, struct session *s)
{
    struct exchange *x = s->exchange;
    struct lane *lane = &x->request;
    struct leg *client = &s->client, *server = server_of(s);
    if (server->shut)
        return STEP_WAIT; /* it takes no more: what it has said may explain why */
    for (int turn = 0; turn < FLOW_TURNS; turn++) {
        if (lane->at < lane->cleared) {
            if (server->full)
                return STEP_WAIT;
            if (x->sent_ns == 0)
                x->sent_ns = e->now;
            if (!lane_send(e, s, lane, client, server)) {
                server->readable |= server->shut;
                return STEP_WAIT;
            }
        }
        if (lane->done || !(client->readable || client->ended))
            return STEP_WAIT;
        if (client->rx && client->rx->end >= BLOCK_READ)
            request_release(e, s);
        int got = lane_more(e, lane, client);
        if (got < 0)
            return request_refuse(e, s, -got);
        if (got == 0)
            return client->ended ? client_gone(e, s) : STEP_WAIT;
    }
    return STEP_GO;
}

/* ---- heads ---- */

uint32_t head_edit(struct block *block, const struct http1_head *head, uint32_t length, const char *field)
{
    uint32_t more = (uint32_t)strlen(field);
    if (head->omit_count) {
        uint32_t gone = (uint32_t)http1_strip(head, block->bytes + block->start);
        block->start += gone;
        length -= gone;
    }
    if (more == 0)
        return length;
    uint8_t *begin = block->bytes + block->start, *end = begin + length - 2; /* before the empty line */
    if (block->start >= more) {
        memmove(begin - more, begin, length - 2);
        block->start -= more;
        end -= more;
    } else {
        memmove(end + more, end, block->end - block->start - (length - 2)); /* into the room beyond BLOCK_READ */
        block->end += more;
    }
    memcpy(end, field, more);
    return length + more;
}

bool head_keep(struct exchange *x, const struct http1_head *head)
{
    x->partial = malloc(sizeof *x->partial);
    if (x->partial)
        memcpy(x->partial, head, sizeof *head);
    return x->partial;
}

void head_forget(struct exchange *x)
{
    free(x->partial);
    x->partial = NULL;
}
