/* A request's head: read, judged, made ready to be forwarded, and given an endpoint. */
#include <string.h>

#include "exchange.h"

bool request_blank(const struct session *s)
{
    const struct block *block = s->client.rx;
    uint32_t length = block ? block->end - block->start : 0;
    return length == 0 || (length <= 2 && memcmp(block->bytes + block->start, "\r\n", length) == 0);
}

enum step request_refuse(struct engine *e, struct session *s, int reason)
{
    e->counters[COUNTER_bad_request_control_byte - 1 + (uint32_t)reason]++;
    if (s->exchange->answering) {
        session_end(e, s, FLAG_DPE, true, true);
        return STEP_OVER;
    }
    return reply_bad(e, s, reason, HTTP1_REQUEST);
}

/* Methods that may be repeated (RFC 9110 9.2.2), when the server may not have seen the request. */
static bool is_idempotent(const struct http1_head *head, const uint8_t *bytes)
{
    static const struct {
        const char *text;
        uint8_t length;
    } OTHERS[] = {{"PUT", 3}, {"DELETE", 6}, {"TRACE", 5}};
    if (head->method != HTTP1_OTHER)
        return head->method != HTTP1_CONNECT;
    for (size_t i = 0; i < sizeof OTHERS / sizeof OTHERS[0]; i++)
        if (head->verb.length == OTHERS[i].length && memcmp(bytes + head->verb.at, OTHERS[i].text, OTHERS[i].length) == 0)
            return true;
    return false;
}

/* The head is not complete: it is kept, and more is read. */
static enum step more(struct engine *e, struct session *s, const struct http1_head *head)
{
    struct exchange *x = s->exchange;
    struct leg *client = &s->client;
    struct block *block = client->rx;
    if (!x->partial && !head_keep(x, head)) {
        COUNT(e, no_memory);
        return reply(e, s, REPLY_overloaded);
    }
    if (client->ended) {
        if (client->reset || !request_blank(s))
            return client_gone(e, s);
        session_end(e, s, FLAG_NONE, false, false);
        return STEP_OVER;
    }
    if (block->start > 0 && block->end >= BLOCK_READ / 2) {
        memmove(block->bytes, block->bytes + block->start, block->end - block->start);
        block->end -= block->start;
        block->start = 0;
    }
    if (!client->readable) {
        uint64_t due_ns = x->began_ns + e->config.head_timeout_ms * NS_PER_MS;
        if (s->timer.due_ns > due_ns)
            timer_start(&e->wheel, &s->timer, due_ns);
        leg_stuck(e, client);
        return STEP_WAIT;
    }
    leg_fill(e, client);
    return STEP_GO;
}

static const char *field_for(const struct http1_head *head)
{
    if (head->upgrade)
        return "Connection: upgrade\r\n";
    return head->minor == 0 && head->keep_alive ? "Connection: keep-alive\r\n" : "";
}

enum step request_head(struct engine *e, struct session *s)
{
    struct exchange *x = s->exchange;
    struct block *block = s->client.rx;
    struct http1_head *head = x->partial;
    if (!head)
        http1_start(head = &e->head);
    int got = http1_request(head, block->bytes + block->start, block->end - block->start);
    if (got == 0)
        return more(e, s, head);
    COUNT(e, http_requests);
    leg_moves(&s->client);
    if (got < 0)
        return request_refuse(e, s, -got);
    x->method = head->method;
    x->minor = head->minor;
    x->keep_alive = head->keep_alive;
    x->upgrade = head->upgrade;
    x->expects = head->expect_continue;
    x->idempotent = is_idempotent(head, block->bytes + block->start);
    lane_open(&x->request, head);
    uint32_t length = head_edit(block, head, (uint32_t)got, field_for(head));
    x->request.at = block->start;
    x->request.cleared = block->start + length;
    x->request.head_left = length;
    x->head_bytes = (uint16_t)length;
    head_forget(x);
    int refused = lane_judge(&x->request, block);
    if (refused < 0)
        return request_refuse(e, s, -refused);
    return request_route(e, s);
}

/* The plan may be another one since the last request, or none. */
static bool replan(struct engine *e, struct session *s)
{
    struct plan *plan = plan_find(e, &s->asked);
    s->plans_version = e->plans_version;
    if (plan && plan != s->plan) {
        plan->refs++;
        plan_unref(e, s->plan);
        s->plan = plan;
    }
    return plan || s->plan->through;
}

static enum reply refusal_for(const struct session *s, enum admission admission)
{
    if (s->dial.barred)
        return REPLY_identity_denied;
    return admission == ADMIT_DENIED ? REPLY_authz_denied : REPLY_path_ambiguous;
}

enum step request_route(struct engine *e, struct session *s)
{
    struct exchange *x = s->exchange;
    x->stage = STAGE_DIALLING;
    if (s->plans_version != e->plans_version && !replan(e, s)) {
        if (e->counters[COUNTER_parked] >= e->config.max_parked) {
            COUNT(e, park_limited);
            return reply(e, s, REPLY_overloaded);
        }
        session_park(e, s);
        return STEP_OVER;
    }
    if (s->dial.state != DIAL_NONE) { /* it was dialled at once, for a client that had not said what it wants */
        enum admission admission = policies_admit(e, s);
        if (admission != ADMIT_YES)
            return reply(e, s, refusal_for(s, admission));
    }
    if (s->dial.state == DIAL_CONNECTED) { /* the first request of a connection whose server was dialled at once */
        x->stage = STAGE_RELAY;
    } else if (s->dial.state == DIAL_NONE) {
        s->dial.count = 0;
        s->dial.stale = false;
        dial_begin(e, s);
    }
    return STEP_NEXT;
}
