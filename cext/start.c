/* A connection's beginning: its plan, and what its first bytes say.
 *
 * Client bytes are read from the start, up to one block: a port whose protocol nobody declared is dialled at once and
 * both sides race; who speaks first decides. Nothing is sent to a server before what is spoken is decided. */
#include <errno.h>
#include <string.h>

#include "stream.h"

void session_decide(struct engine *e, struct session *s, enum detected found)
{
    static const uint8_t spoken[] = {SPOKEN_TCP, SPOKEN_TCP, SPOKEN_HTTP1, SPOKEN_HTTP2, SPOKEN_TLS};
    s->decided = true;
    s->spoken = spoken[found];
    switch (found) {
    case DETECTED_HTTP1: COUNT(e, detected_http1); break;
    case DETECTED_HTTP2: COUNT(e, detected_http2); break;
    case DETECTED_TLS: COUNT(e, detected_tls); break;
    default: COUNT(e, detected_other); break;
    }
    if (s->state == SESSION_OPEN)
        session_count_opened(e, s);
}

void session_look(struct engine *e, struct session *s)
{
    if (s->decided || !s->plan)
        return;
    const struct block *block = s->client.rx;
    bool more = !s->client.ended && leg_has_room(&s->client);
    enum detected found = block ? detect(block->bytes, block->end) : DETECTED_MORE;
    if (block && !s->spoke_ns)
        s->spoke_ns = e->now;
    if (found == DETECTED_MORE && more)
        return;
    if (block && found <= DETECTED_OTHER && s->plan->protocol == ENGINE_HTTP)
        found = DETECTED_HTTP1; /* declared: what is not HTTP is for its parser to refuse */
    char name[ENGINE_SNI_MAX];
    int sni = found == DETECTED_TLS ? detect_sni(block->bytes, block->end, name, sizeof name) : 0;
    if (sni == -1 && more)
        return;
    if (sni < 0 && s->plan->protocol == ENGINE_HTTP)
        found = DETECTED_HTTP1; /* it only begins like TLS */
    if (sni > 0)
        s->sni = strdup(name);
    if (block)
        plan_learn(s->plan, s->asked.port, SPEAKER_CLIENT);
    session_decide(e, s, found);
}

enum detected session_guess(const struct session *s)
{
    bool tls = s->client.rx && detect(s->client.rx->bytes, s->client.rx->end) == DETECTED_TLS;
    return tls ? DETECTED_TLS : DETECTED_OTHER;
}

static bool is_opaque(const struct engine *e, const struct session *s)
{
    const struct pod *pod = pod_find(e, s->slot);
    for (uint32_t i = 0; pod && i < pod->opaque_count; i++)
        if (pod->opaque_ports[i] == s->asked.port)
            return true;
    return s->plan->protocol == ENGINE_OPAQUE;
}

/* HTTP picks an endpoint for each request when it has seen its head; all else dials. */
static void go_on(struct engine *e, struct session *s)
{
    if (s->spoken == SPOKEN_HTTP1) {
        http_begin(e, s);
    } else {
        session_enter(e, s, SESSION_DIALLING);
        dial_begin(e, s);
    }
}

/* How long to wait for the client's first bytes before anything is dialled; 0: not at all, the server may speak first. */
static uint32_t patience_ms(const struct engine *e, const struct session *s)
{
    if (s->decided || s->client.ended || s->tunnelled) /* who comes by tunnel waits for the server to be there */
        return 0;
    if (s->plan->protocol == ENGINE_HTTP)
        return e->config.detect_timeout_ms;
    return plan_speaker(s->plan, s->asked.port) == SPEAKER_CLIENT ? e->config.detect_hold_ms : 0;
}

void session_use(struct engine *e, struct session *s, struct plan *plan)
{
    plan->refs++;
    if (s->plan)
        plan_unref(e, s->plan);
    s->plan = plan;
    s->plans_version = e->plans_version;
    if (s->exchange) {
        http_planned(e, s);
        return;
    }
    session_enter(e, s, SESSION_DETECTING);
    s->decided = is_opaque(e, s);
    session_look(e, s);
    uint32_t wait_ms = patience_ms(e, s);
    if (wait_ms) {
        timer_start(&e->wheel, &s->timer, ms_from_now(e, wait_ms));
        session_watch(e, s);
    } else {
        go_on(e, s);
    }
}

void session_wait(struct engine *e, struct session *s)
{
    COUNT(e, policy_waited);
    s->waited = true;
    session_enter(e, s, SESSION_DETECTING);
    timer_start(&e->wheel, &s->timer, ms_from_now(e, e->config.detect_hold_ms));
    session_watch(e, s);
}

/* What is asked for is known to the kernel, so somebody has a plan for it, and it may say "by tunnel": a pod that could
 * does not go on in plaintext because we were not told in time. */
static void pass_through(struct engine *e, struct session *s)
{
    const struct pod *pod = pod_find(e, s->slot);
    if (s->direction == ENGINE_OUTBOUND && pod && pod->identity) {
        COUNT(e, plan_missing);
        session_give_up(e, s, FLAG_NR);
        return;
    }
    int32_t slot = s->direction == ENGINE_INBOUND ? (int32_t)s->slot : -1;
    struct plan *plan = plan_through(e, &s->asked, slot);
    if (!plan) {
        COUNT(e, no_memory);
        session_give_up(e, s, FLAG_UO);
        return;
    }
    COUNT(e, passed_through);
    session_use(e, s, plan);
    plan_unref(e, plan);
}

void session_park(struct engine *e, struct session *s)
{
    if (e->counters[COUNTER_parked] >= e->config.max_parked) {
        COUNT(e, park_limited);
        session_give_up(e, s, FLAG_UO);
        return;
    }
    session_enter(e, s, SESSION_PARKED);
    list_push(&e->sessions.parked, &s->queued);
    timer_start(&e->wheel, &s->timer, ms_from_now(e, e->config.park_timeout_ms));
    COUNT(e, parked);
    COUNT(e, need_plan);
    struct engine_event event = {.kind = ENGINE_NEED_PLAN, .connection = s->id, .slot = s->slot,
                                 .direction = s->direction, .port = s->asked.port};
    memcpy(event.address, s->asked.ip, sizeof event.address);
    event_push(e, &event);
}

static void route(struct engine *e, struct session *s)
{
    struct plan *plan = plan_find(e, &s->asked);
    if (plan)
        session_use(e, s, plan);
    else
        session_park(e, s);
}

void engine_no_plan(engine *e, uint64_t connection)
{
    struct session *s = session_find(e, connection);
    if (!s || s->state != SESSION_PARKED)
        return;
    engine_begin(e);
    pass_through(e, s);
    engine_finish(e);
}

static struct session *admit(struct engine *e, uint32_t slot, uint8_t direction, const struct endpoint_address *peer,
                             const struct endpoint_address *asked)
{
    bool room = e->counters[COUNTER_connections] < e->config.max_connections || session_reclaim(e);
    struct session *s = room ? session_new(e) : NULL;
    if (!s) {
        e->counters[room ? COUNTER_no_memory : COUNTER_accept_limited]++;
        errno = room ? ENOMEM : EAGAIN;
        return NULL;
    }
    s->client = (struct leg){.watch = {.fd = -1, .kind = WATCH_CLIENT}, .session = s};
    list_init(&s->client.lapse);
    s->slot = slot;
    s->direction = direction;
    s->peer = *peer;
    s->asked = *asked;
    return s;
}

static void begin(struct engine *e, struct session *s)
{
    session_watch(e, s);
    if (s->state != SESSION_DEAD)
        route(e, s);
}

int session_start(struct engine *e, int fd, bool shared, uint32_t slot, uint8_t direction,
                  const struct endpoint_address *peer, const struct endpoint_address *asked)
{
    struct session *s = admit(e, slot, direction, peer, asked);
    if (!s) {
        int error = errno;
        turn_away(fd);
        return -error;
    }
    s->client.watch.fd = fd;
    s->client.shared = shared;
    const struct pod *pod = pod_find(e, slot);
    s->source = direction == ENGINE_INBOUND ? source_of(e, peer->ip) : pod ? pod->source : 0;
    if (direction == ENGINE_OUTBOUND && pod)
        s->identity = name_ref(pod->principal); /* the kernel's word: the socket was the pod's */
    begin(e, s);
    return 0;
}

int session_start_stream(struct engine *e, struct stream *st, uint32_t slot, const struct endpoint_address *peer,
                         const struct endpoint_address *asked, struct name *identity)
{
    struct session *s = admit(e, slot, ENGINE_INBOUND, peer, asked);
    if (!s)
        return -errno;
    stream_hold(st, &s->client);
    s->tunnelled = true;
    s->identity = name_ref(identity);
    s->source = source_identity(e, peer->ip) == identity ? source_of(e, peer->ip) : 0;
    begin(e, s);
    return 0;
}

int session_start_arrival(struct engine *e, int fd, const struct engine_arrival *from, const struct endpoint_address *peer,
                          struct name *identity)
{
    struct endpoint_address asked = {.port = from->port};
    memcpy(asked.ip, from->address, sizeof asked.ip);
    struct session *s = admit(e, from->slot, ENGINE_INBOUND, peer, &asked);
    if (!s) {
        int error = errno;
        turn_away(fd);
        return -error;
    }
    s->client.watch.fd = fd;
    s->tunnelled = true;
    s->arrival = from->job;
    s->identity = name_ref(identity);
    s->source = source_identity(e, peer->ip) == identity ? source_of(e, peer->ip) : 0;
    begin(e, s);
    return 0;
}

void start_client_event(struct engine *e, struct session *s)
{
    leg_fill(e, &s->client);
    if (s->client.reset) {
        COUNT(e, client_reset);
        session_end(e, s, FLAG_DC, true, true);
        return;
    }
    if (s->client.starved && s->state == SESSION_DETECTING && s->plan->protocol == ENGINE_HTTP)
        session_decide(e, s, DETECTED_HTTP1); /* it can be told that we are overloaded */
    session_look(e, s);
    bool http = s->state == SESSION_DIALLING && s->spoken == SPOKEN_HTTP1; /* the dial under way is its first */
    if (http || (s->state == SESSION_DETECTING && (s->decided || s->client.ended)))
        go_on(e, s);
    else
        session_watch(e, s);
}

void start_timeout(struct engine *e, struct session *s)
{
    if (s->state == SESSION_PARKED) {
        COUNT(e, park_timeout);
        pass_through(e, s);
    } else {
        COUNT(e, detect_timeout);
        if (s->client.rx)
            session_decide(e, s, s->plan->protocol == ENGINE_HTTP ? DETECTED_HTTP1 : session_guess(s));
        go_on(e, s); /* undecided: whoever speaks first */
    }
}
