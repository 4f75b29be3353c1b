/* A session that speaks HTTP/1, from one exchange to the next: what can be done now, events, accounts, timeouts, the
 * end. Everything that happens leads to http_run, which does whatever can be done in the session's state. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "exchange.h"

#define TURNS 16 /* steps for one session, before others get their turn */

/* ---- exchanges ---- */

static struct exchange *exchange_new(struct engine *e)
{
    struct exchange *x = e->exchanges_free;
    if (x)
        e->exchanges_free = x->next;
    else if (!(x = malloc(sizeof *x)))
        return NULL;
    memset(x, 0, sizeof *x);
    return x;
}

void http_free(struct engine *e)
{
    while (e->exchanges_free) {
        struct exchange *x = e->exchanges_free;
        e->exchanges_free = x->next;
        free(x);
    }
}

/* The series of most requests is the one of the request before. */
static struct series *series_of(struct engine *e, struct session *s, uint16_t code, enum flag flag)
{
    struct series_key key = {.source = s->source, .service = s->plan->service, .endpoint = s->dial.endpoint,
                             .code = code, .direction = s->direction, .protocol = SPOKEN_HTTP1, .flag = (uint8_t)flag,
                             .security = security_of(s)};
    if (!s->recent || memcmp(&s->recent->key, &key, sizeof key) != 0)
        s->recent = stats_series(e->stats, &key);
    return s->recent;
}

/* A request that was turned away before anything of it was read. */
void exchange_unread(struct engine *e, struct session *s, uint16_t code, enum flag flag)
{
    COUNT(e, http_requests);
    series_record(series_of(e, s, code, flag), 0);
}

void exchange_end(struct engine *e, struct session *s, enum flag flag)
{
    struct exchange *x = s->exchange;
    if (!(x->stage == STAGE_HEAD && request_blank(s))) {
        struct series *series = series_of(e, s, x->code, flag);
        series_record(series, (x->over_ns ? x->over_ns : clock_ns()) - x->began_ns);
        series->request_bytes += x->request.body_bytes;
        series->response_bytes += x->response.body_bytes;
        s->carried = series;
    }
    if (x->stage != STAGE_HEAD)
        request_release(e, s);
    head_forget(x);
    s->exchange = NULL;
    x->next = e->exchanges_free;
    e->exchanges_free = x;
}

void http_ended(struct engine *e, struct session *s, enum flag flag)
{
    if (s->exchange)
        exchange_end(e, s, flag);
}

enum step client_gone(struct engine *e, struct session *s)
{
    COUNT(e, client_reset);
    session_end(e, s, FLAG_DC, true, true);
    return STEP_OVER;
}

/* ---- the session between exchanges ---- */

/* The timer is moved only when it is too late: for most requests it is not touched. */
static void arm(struct engine *e, struct session *s, uint64_t due_ns)
{
    if (!timer_running(&s->timer) || s->timer.due_ns > due_ns)
        timer_start(&e->wheel, &s->timer, due_ns);
}

static enum step begin(struct engine *e, struct session *s)
{
    struct leg *client = &s->client;
    if (!client->rx) {
        if (client->readable)
            leg_fill(e, client);
        if (client->starved)
            return reply(e, s, REPLY_overloaded);
        if (!client->rx && client->ended)
            return client->reset ? client_gone(e, s) : (session_end(e, s, FLAG_NONE, false, false), STEP_OVER);
        if (!client->rx)
            return STEP_WAIT;
    }
    struct exchange *x = exchange_new(e);
    if (!x) {
        COUNT(e, no_memory);
        return reply(e, s, REPLY_overloaded);
    }
    s->exchange = x;
    s->state = SESSION_EXCHANGE;
    leg_moves(client);
    x->began_ns = e->now;
    if (s->dial.state == DIAL_NONE)
        s->dial.endpoint = 0;
    arm(e, s, ms_from_now(e, e->config.stream_idle_ms));
    return STEP_GO;
}

enum step exchange_next(struct engine *e, struct session *s, bool persist)
{
    if (!persist)
        return linger_begin(e, s);
    s->state = SESSION_IDLE;
    s->active_ns = e->now;
    leg_idle(e, &s->client);
    return STEP_NEXT;
}

static enum step relay(struct engine *e, struct session *s)
{
    enum step there = request_relay(e, s);
    if (there >= STEP_NEXT)
        return there;
    enum step back = response_relay(e, s);
    return back == STEP_WAIT ? there : back;
}

static enum step step(struct engine *e, struct session *s)
{
    if (s->state == SESSION_CLOSING)
        return linger(e, s);
    if (s->state == SESSION_IDLE)
        return begin(e, s);
    if (s->state != SESSION_EXCHANGE)
        return STEP_OVER;
    switch (s->exchange->stage) {
    case STAGE_HEAD: return request_head(e, s);
    case STAGE_RELAY: return relay(e, s);
    default: return STEP_WAIT;
    }
}

void http_run(struct engine *e, struct session *s)
{
    if (s->running)
        return;
    s->running = true;
    enum step next = STEP_GO;
    for (int turn = 0; turn < TURNS && (next == STEP_GO || next == STEP_NEXT); turn++)
        next = step(e, s);
    s->running = false;
    if ((next == STEP_GO || next == STEP_NEXT) && list_empty(&s->queued))
        list_push(&e->sessions.again, &s->queued);
}

void http_begin(struct engine *e, struct session *s)
{
    session_enter(e, s, SESSION_IDLE);
    session_count_opened(e, s);
    s->client.starved = false;
    s->client.readable = !s->client.rx;
    s->leaving = e->leaving;
    session_watch(e, s);
    if (s->state == SESSION_DEAD)
        return;
    arm(e, s, ms_from_now(e, e->config.idle_timeout_ms));
    if (begin(e, s) != STEP_GO)
        return;
    s->exchange->began_ns = s->spoke_ns;
    if (s->dial.state == DIAL_CONNECTED)
        http_connected(e, s);
    http_run(e, s);
}

/* ---- what happens to it ---- */

static void note(struct leg *leg, uint32_t events)
{
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        leg->readable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        leg->hangup = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        leg->full = false;
}

void http_event(struct engine *e, struct leg *leg, uint32_t events)
{
    struct session *s = leg->session;
    bool client = leg == &s->client;
    if (!client && s->dial.state == DIAL_CONNECTING) {
        dial_event(e, s);
        return;
    }
    note(leg, events);
    if (client && events & EPOLLERR && s->state != SESSION_CLOSING)
        client_gone(e, s);
    else if (!client && s->exchange->stage == STAGE_HEAD)
        dial_leave(e, s, false); /* dialled before it was asked for, and of no use any more */
    else
        http_run(e, s);
}

void http_planned(struct engine *e, struct session *s)
{
    session_enter(e, s, SESSION_EXCHANGE);
    s->recent = NULL;
    s->active_ns = e->now;
    session_watch(e, s);
    if (s->state == SESSION_DEAD)
        return;
    arm(e, s, ms_from_now(e, e->config.stream_idle_ms));
    request_route(e, s);
    http_run(e, s);
}

void http_connected(struct engine *e, struct session *s)
{
    struct leg *server = server_of(s);
    if (server->watch.wanted != LEG_EVENTS && server->watch.wanted != (LEG_EVENTS | EPOLLOUT) &&
        leg_watch(e, server, LEG_EVENTS) < 0) {
        reply(e, s, REPLY_overloaded);
        return;
    }
    if (s->exchange->stage != STAGE_DIALLING)
        return;
    s->exchange->stage = STAGE_RELAY;
    s->exchange->held = s->dial.up->used && s->exchange->idempotent && e->counters[COUNTER_buffers] < e->config.max_buffers / 2;
    http_run(e, s);
}

static enum reply reply_for(const struct session *s, enum flag flag)
{
    switch (flag) {
    case FLAG_UH: return REPLY_no_endpoint;
    case FLAG_UO: return REPLY_overloaded;
    case FLAG_UAEX: return s->dial.barred ? REPLY_identity_denied : REPLY_authz_denied;
    case FLAG_DPE: return REPLY_path_ambiguous;
    default: return REPLY_connect_failed;
    }
}

void http_not_connected(struct engine *e, struct session *s, enum flag flag)
{
    if (s->exchange->stage != STAGE_DIALLING)
        return; /* dialled before it was asked for: the request picks anew */
    reply(e, s, reply_for(s, flag));
    http_run(e, s);
}

void http_leave(struct engine *e, struct session *s)
{
    s->leaving = true;
    if (s->state == SESSION_IDLE || (s->exchange && s->exchange->stage == STAGE_HEAD && request_blank(s)))
        session_end(e, s, FLAG_NONE, false, false);
}

void http_orphan(struct engine *e, struct session *s)
{
    s->slot = SLOTS_MAX; /* no pod's */
    http_leave(e, s);
}

/* ---- timeouts ---- */

static void head_overdue(struct engine *e, struct session *s)
{
    if (request_blank(s)) {
        session_end(e, s, FLAG_NONE, false, false);
        return;
    }
    COUNT(e, http_head_timeout);
    reply(e, s, REPLY_head_timeout);
    http_run(e, s);
}

/* Nothing moved for long: whose fault is it? */
static void stalled(struct engine *e, struct session *s)
{
    const struct exchange *x = s->exchange;
    COUNT(e, http_stalled);
    if (x->answering) {
        bool server = !s->client.full && !x->response.done;
        session_end(e, s, server ? FLAG_UT : FLAG_SI, true, true);
        return;
    }
    bool client = !x->request.done && x->request.at == x->request.cleared;
    reply(e, s, client ? REPLY_body_timeout : REPLY_server_timeout);
    http_run(e, s);
}

void http_timeout(struct engine *e, struct session *s)
{
    const struct engine_config *c = &e->config;
    if (s->state == SESSION_CLOSING) {
        session_end(e, s, FLAG_NONE, false, false);
        return;
    }
    bool head = s->exchange && s->exchange->stage == STAGE_HEAD;
    uint32_t limit_ms = head ? c->head_timeout_ms : s->exchange ? c->stream_idle_ms : c->idle_timeout_ms;
    uint64_t due_ns = (head ? s->exchange->began_ns : s->active_ns) + limit_ms * NS_PER_MS;
    if (e->now < due_ns) {
        timer_start(&e->wheel, &s->timer, due_ns);
    } else if (head) {
        head_overdue(e, s);
    } else if (s->exchange) {
        stalled(e, s);
    } else {
        COUNT(e, idle_timeout);
        session_end(e, s, FLAG_NONE, false, false);
    }
}
