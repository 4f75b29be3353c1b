/* A response: its heads, its body, and what becomes of both connections after it. */
#include <errno.h>
#include <string.h>

#include "exchange.h"

#define SLOWER 10.0 /* than its estimate is an endpoint that answers 5xx, for the balancer: it may be quick to fail */

static enum step bad_response(struct engine *e, struct session *s, int reason)
{
    e->counters[COUNTER_bad_response_control_byte - 1 + (uint32_t)reason]++;
    dial_observe_failure(e, s);
    if (s->exchange->answering) {
        session_end(e, s, FLAG_UPE, true, true);
        return STEP_OVER;
    }
    return reply_bad(e, s, reason, HTTP1_RESPONSE);
}

/* An idle connection may be closed by its server at any time, also just when a request is on its way to it. The request
 * is repeated once when the server has not seen it, or must not mind. */
static enum step closed_early(struct engine *e, struct session *s)
{
    struct exchange *x = s->exchange;
    bool whole = x->request.sent == 0 || (x->held && x->idempotent);
    COUNT(e, server_reset);
    if (s->dial.up->used && whole && !x->repeated && !s->leaving) {
        COUNT(e, http_repeated);
        x->repeated = true;
        request_rewind(s);
        x->stage = STAGE_DIALLING;
        dial_repeat(e, s);
        return STEP_NEXT;
    }
    dial_observe_failure(e, s);
    return reply(e, s, REPLY_server_closed);
}

static enum step cut_short(struct engine *e, struct session *s)
{
    COUNT(e, server_reset);
    dial_observe_failure(e, s);
    session_end(e, s, FLAG_UC, true, true);
    return STEP_OVER;
}

static void observe(struct engine *e, struct session *s, uint16_t status)
{
    double rtt_ns = (double)(e->now - s->exchange->sent_ns), worst_ns = e->config.default_rtt_ms * (double)NS_PER_MS;
    if (status >= 500) {
        double estimate_ns = s->dial.target->load.rtt_ns;
        rtt_ns = (estimate_ns > rtt_ns ? estimate_ns : rtt_ns) * SLOWER;
        rtt_ns = rtt_ns < worst_ns ? rtt_ns : worst_ns;
    }
    dial_observe(e, s, rtt_ns);
}

static enum step interim(struct engine *e, struct session *s, const struct http1_head *head, uint32_t length)
{
    struct exchange *x = s->exchange;
    struct leg *server = server_of(s);
    if (++x->interims > e->config.max_interim) {
        COUNT(e, http_too_many_interim);
        dial_observe_failure(e, s);
        return reply(e, s, REPLY_too_many_interim);
    }
    x->expects = false;
    bool told = x->minor > 0; /* HTTP/1.0 has none */
    if (told)
        length = head_edit(server->rx, head, length, "");
    x->response.at = x->response.cleared = server->rx->start + length;
    if (told) {
        x->response.at = server->rx->start;
        x->response.head_left = length;
    } else {
        server->rx->start += length;
        if (server->rx->start == server->rx->end)
            leg_drop(e, server);
    }
    head_forget(x);
    return STEP_GO;
}

/* Whether the client's connection lives on after this response. When it comes before the request's end, from a server
 * that will read no more, or to a client that waits to be told to go on (it may send its body or not): then nothing
 * that follows can be understood. */
static bool persists(const struct engine *e, const struct session *s, const struct http1_head *head)
{
    const struct exchange *x = s->exchange;
    return x->keep_alive && !s->leaving && !e->leaving && head->framing != HTTP1_UNTIL_CLOSE &&
           (x->request.done || (head->keep_alive && !x->expects));
}

static const char *field_for(const struct exchange *x, const struct http1_head *head)
{
    if (head->upgrade && head->status == 101)
        return "Connection: upgrade\r\n";
    if (head->framing == HTTP1_TUNNEL)
        return "";
    if (!x->persist)
        return head->upgrade ? "Connection: close, upgrade\r\n" : "Connection: close\r\n";
    if (head->upgrade)
        return "Connection: upgrade\r\n";
    return x->minor == 0 || head->minor == 0 ? "Connection: keep-alive\r\n" : "";
}

static enum step accept_head(struct engine *e, struct session *s, const struct http1_head *head, uint32_t length)
{
    struct exchange *x = s->exchange;
    struct block *block = server_of(s)->rx;
    if (head->interim)
        return interim(e, s, head, length);
    if (x->minor == 0 && head->framing == HTTP1_CHUNKED)
        return bad_response(e, s, HTTP1_coding_on_http10);
    x->code = head->status;
    x->reusable = head->keep_alive;
    x->persist = persists(e, s, head);
    observe(e, s, head->status);
    lane_open(&x->response, head);
    length = head_edit(block, head, length, field_for(x, head));
    x->response.at = block->start;
    x->response.cleared = block->start + length;
    x->response.head_left = length;
    head_forget(x);
    int refused = lane_judge(&x->response, block);
    return refused < 0 ? bad_response(e, s, -refused) : STEP_GO;
}

static enum step read_head(struct engine *e, struct session *s)
{
    struct exchange *x = s->exchange;
    struct leg *server = server_of(s);
    struct block *block = server->rx;
    if (!block || x->partial) {
        uint32_t before = block ? block->end : 0;
        if (!server->readable && !server->ended)
            return STEP_WAIT;
        if (block && block->end >= BLOCK_READ && block->start > 0) {
            memmove(block->bytes, block->bytes + block->start, block->end - block->start);
            block->end -= block->start;
            before = block->end, block->start = 0;
        }
        leg_fill(e, server);
        block = server->rx;
        if (!block || block->end == before)
            return server->ended ? closed_early(e, s) : STEP_WAIT;
        request_release(e, s);
    }
    struct http1_head *head = x->partial;
    if (!head)
        http1_start(head = &e->head);
    int got = http1_response(head, block->bytes + block->start, block->end - block->start,
                             (enum http1_method)x->method, x->upgrade);
    if (got < 0)
        return bad_response(e, s, -got);
    if (got > 0)
        return accept_head(e, s, head, (uint32_t)got);
    if (x->partial || head_keep(x, head))
        return STEP_GO;
    COUNT(e, no_memory);
    return reply(e, s, REPLY_overloaded);
}

/* ---- the end of a response ---- */

static enum step upgrade(struct engine *e, struct session *s)
{
    struct exchange *x = s->exchange;
    if (!x->request.done)
        return cut_short(e, s); /* a server that changes the protocol in the middle of a request */
    COUNT(e, http_upgraded);
    exchange_end(e, s, FLAG_NONE);
    opaque_upgrade(e, s);
    return STEP_OVER;
}

/* Bytes beyond the response: nobody asked for them. */
static bool has_surplus(struct engine *e, struct leg *server)
{
    if (!server->rx && server->readable)
        leg_fill(e, server);
    if (!server->rx)
        return false;
    COUNT(e, http_surplus);
    return true;
}

/* The response is over before its request: a server that keeps its connection open reads on, and so do we. */
static bool reads_on(struct engine *e, const struct exchange *x, struct leg *server)
{
    return x->persist && x->reusable && !server->shut && !has_surplus(e, server) && !server->ended;
}

static enum step finish(struct engine *e, struct session *s)
{
    struct exchange *x = s->exchange;
    struct leg *server = server_of(s);
    if (x->response.framing == HTTP1_TUNNEL)
        return upgrade(e, s);
    bool whole = x->request.done && x->request.at == x->request.cleared && !server->shut;
    bool persist = x->persist && whole && !s->leaving;
    if (!x->over_ns) {
        x->over_ns = clock_ns();
        if (!whole)
            COUNT(e, http_early_response);
    }
    if (!whole && reads_on(e, x, server))
        return STEP_WAIT;
    if (whole && x->reusable && !has_surplus(e, server))
        pool_put(e, s);
    else
        dial_leave(e, s, false);
    bool last = !x->keep_alive;
    exchange_end(e, s, FLAG_NONE);
    if (!persist && last && whole && !s->client.rx && !s->client.readable) {
        session_end(e, s, FLAG_NONE, false, false); /* it said itself that nothing follows */
        return STEP_OVER;
    }
    return exchange_next(e, s, persist);
}

static enum step read_body(struct engine *e, struct session *s)
{
    struct exchange *x = s->exchange;
    struct leg *server = server_of(s);
    if (!server->readable && !server->ended)
        return STEP_WAIT;
    int got = lane_more(e, &x->response, server);
    if (got < 0)
        return bad_response(e, s, -got);
    if (got > 0)
        return STEP_GO;
    if (!server->ended)
        return STEP_WAIT;
    if (server->reset || x->response.framing != HTTP1_UNTIL_CLOSE)
        return cut_short(e, s);
    x->response.done = true;
    return STEP_GO;
}

enum step response_relay(struct engine *e, struct session *s)
{
    struct exchange *x = s->exchange;
    struct lane *lane = &x->response;
    struct leg *client = &s->client;
    enum step next = STEP_GO;
    for (int turn = 0; turn < 2 * FLOW_TURNS && next == STEP_GO; turn++) {
        if (lane->at < lane->cleared) {
            if (client->full)
                return STEP_WAIT;
            x->answering = x->code != 0;
            if (!lane_send(e, s, lane, server_of(s), client))
                return client->shut ? client_gone(e, s) : STEP_WAIT;
        }
        if (lane->done)
            return finish(e, s);
        next = x->code ? read_body(e, s) : read_head(e, s);
    }
    return next;
}
