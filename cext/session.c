/* The sessions: their table, states, interest in events, accounts and end.
 *
 *   new -> (parked) -> (detecting) -> dialling -> open -> dead
 *          start.c                    dial.c      opaque.c
 *                            `-> exchange <-> idle -> (closing) -> dead
 *                                exchange.c, which dials as it needs */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core.h"

static void on_timer(void *owner, struct timer *);

#define STATE_NAME(name, text) text,
static const char *const STATE_NAMES[] = {SESSION_STATES(STATE_NAME)};

const char *engine_state_name(uint32_t number)
{
    return number < SESSION_STATE_COUNT ? STATE_NAMES[number] : NULL;
}

/* ---- the table of sessions ---- */

void sessions_init(struct engine *e)
{
    list_init(&e->sessions.all);
    list_init(&e->sessions.parked);
    list_init(&e->sessions.starved);
    list_init(&e->sessions.dead);
    list_init(&e->sessions.again);
    list_init(&e->sessions.stuck);
    list_init(&e->sessions.idle);
}

static int grow(struct sessions *all)
{
    uint32_t size = all->size ? all->size * 2 : 64;
    struct session **table = realloc(all->table, size * sizeof *table);
    if (table)
        all->table = table;
    uint32_t *generations = realloc(all->generations, size * sizeof *generations);
    if (generations)
        all->generations = generations;
    uint32_t *vacant = realloc(all->free, size * sizeof *vacant);
    if (vacant)
        all->free = vacant;
    if (!table || !generations || !vacant)
        return -ENOMEM;
    for (uint32_t i = size; i-- > all->size;) {
        table[i] = NULL;
        generations[i] = 0;
        vacant[all->free_count++] = i;
    }
    all->size = size;
    return 0;
}

struct session *session_new(struct engine *e)
{
    struct sessions *all = &e->sessions;
    if (all->free_count == 0 && grow(all) < 0)
        return NULL;
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    uint32_t index = all->free[--all->free_count];
    all->table[index] = s;
    s->id = (uint64_t)++all->generations[index] << 32 | (index + 1);
    s->began_ns = s->active_ns = e->now;
    list_init(&s->all);
    list_init(&s->queued);
    timer_init(&s->timer, on_timer);
    dial_init(&s->dial);
    list_push(&all->all, &s->all);
    COUNT(e, connections);
    return s;
}

struct session *session_find(const struct engine *e, uint64_t id)
{
    uint32_t index = (uint32_t)id - 1;
    struct session *s = index < e->sessions.size ? e->sessions.table[index] : NULL;
    return s && s->id == id ? s : NULL;
}

void sessions_bury(struct engine *e)
{
    struct list *link;
    while ((link = list_shift(&e->sessions.dead)))
        free(container_of(link, struct session, queued));
}

void sessions_free(struct engine *e)
{
    while (!list_empty(&e->sessions.all))
        session_end(e, container_of(e->sessions.all.next, struct session, all), FLAG_LR, true, true);
    sessions_bury(e);
    free(e->sessions.table);
    free(e->sessions.generations);
    free(e->sessions.free);
}

/* ---- states, interest, accounts ---- */

void session_enter(struct engine *e, struct session *s, enum session_state state)
{
    if (s->state == SESSION_PARKED)
        LESS(e, parked);
    list_remove(&s->queued);
    timer_stop(&s->timer);
    s->state = (uint8_t)state;
}

static uint32_t client_wants(const struct session *s)
{
    bool collecting = s->state != SESSION_OPEN || !s->decided;
    bool room = collecting ? leg_has_room(&s->client) : !s->client.rx;
    const struct leg *server = s->dial.up ? &s->dial.up->leg : NULL;
    bool read = room && !s->client.ended && !s->client.starved && !(server && server->reset);
    bool write = s->state == SESSION_OPEN && server->rx;
    return (read ? EPOLLIN : 0) | (write ? EPOLLOUT : 0);
}

static uint32_t server_wants(const struct session *s)
{
    const struct leg *server = &s->dial.up->leg;
    if (s->dial.state == DIAL_CONNECTING)
        return EPOLLIN | EPOLLOUT;
    bool read = !server->rx && !server->ended && !server->starved && !s->client.reset;
    bool write = s->client.rx && s->decided;
    return (read ? EPOLLIN : 0) | (write ? EPOLLOUT : 0);
}

static bool is_http(const struct session *s)
{
    return s->state == SESSION_EXCHANGE || s->state == SESSION_IDLE || s->state == SESSION_CLOSING;
}

void session_watch(struct engine *e, struct session *s)
{
    int failed = leg_watch(e, &s->client, is_http(s) ? LEG_EVENTS : client_wants(s));
    if (s->dial.up)
        failed |= leg_watch(e, &s->dial.up->leg, server_wants(s));
    if (failed)
        session_end(e, s, FLAG_UO, true, true);
}

static struct series_key key_of(const struct session *s, enum flag flag)
{
    return (struct series_key){.source = s->source, .service = s->plan ? s->plan->service : 0,
                               .endpoint = s->spoken == SPOKEN_HTTP1 ? 0 : s->dial.endpoint, .direction = s->direction, .protocol = s->spoken, .flag = (uint8_t)flag,
                               .security = security_of(s)};
}

void session_count_opened(struct engine *e, struct session *s)
{
    if (s->series)
        return;
    struct series_key key = key_of(s, FLAG_NONE);
    s->series = s->carried = stats_series(e->stats, &key);
    s->series->opened++;
    if (s->state == SESSION_OPEN && s->spoken != SPOKEN_HTTP1)
        policies_opened(e, s);
}

void session_end(struct engine *e, struct session *s, enum flag flag, bool reset_client, bool reset_server)
{
    if (s->state == SESSION_DEAD)
        return;
    session_enter(e, s, SESSION_DEAD);
    session_count_opened(e, s);
    s->series->closed++;
    if (s->spoken == SPOKEN_HTTP1) {
        http_ended(e, s, flag);
    } else {
        struct series_key key = key_of(s, flag);
        series_record(stats_series(e->stats, &key), e->now - s->began_ns);
    }
    if (s->arrival)
        carry_answer(e, s, s->refusal ? s->refusal : 503);
    leg_close(e, &s->client, reset_client);
    dial_leave(e, s, reset_server);
    if (s->plan)
        plan_unref(e, s->plan);
    name_unref(e, s->identity);
    free(s->sni);
    uint32_t index = (uint32_t)s->id - 1;
    e->sessions.table[index] = NULL;
    e->sessions.free[e->sessions.free_count++] = index;
    list_remove(&s->all);
    list_push(&e->sessions.dead, &s->queued);
    LESS(e, connections);
}

/* Refused before any byte came from a server: the client sees a reset, as if the server had refused it. */
void session_give_up(struct engine *e, struct session *s, enum flag flag)
{
    COUNT(e, local_reset);
    session_end(e, s, flag, true, true);
}

void session_event(struct engine *e, struct leg *leg, uint32_t events)
{
    struct session *s = leg->session;
    if (s->state == SESSION_DEAD || leg_is_closed(leg))
        return;
    if (is_http(s)) {
        http_event(e, leg, events);
        return;
    }
    if ((events & (EPOLLERR | EPOLLHUP)) && leg->watch.wanted == 0 && !leg->stream)
        watch_mute(e, &leg->watch); /* errors cannot be unwanted: level-triggered they would spin */
    if (s->state == SESSION_OPEN)
        opaque_event(e, leg, events);
    else if (leg != &s->client)
        dial_event(e, s);
    else
        start_client_event(e, s);
}

void sessions_feed(struct engine *e)
{
    while (!list_empty(&e->sessions.starved) && e->counters[COUNTER_buffers] < e->config.max_buffers) {
        struct session *s = container_of(list_shift(&e->sessions.starved), struct session, queued);
        s->client.starved = false;
        if (s->dial.up)
            s->dial.up->leg.starved = false;
        if (is_http(s))
            http_run(e, s);
        else
            session_watch(e, s);
    }
}

void sessions_leave(struct engine *e, uint32_t ms)
{
    struct list *next;
    for (struct list *at = e->sessions.all.next; at != &e->sessions.all; at = next) {
        struct session *s = container_of(at, struct session, all);
        next = at->next;
        if (is_http(s) && e->now - s->began_ns >= ms * NS_PER_MS)
            http_leave(e, s);
    }
}

uint32_t sessions_again(struct engine *e)
{
    struct list all, *link;
    uint32_t count = 0;
    for (list_move(&e->sessions.again, &all); (link = list_shift(&all)); count++)
        http_run(e, container_of(link, struct session, queued));
    return count;
}

/* ---- timeouts ---- */

static void on_timer(void *owner, struct timer *timer)
{
    struct engine *e = owner;
    struct session *s = container_of(timer, struct session, timer);
    switch (s->state) {
    case SESSION_PARKED:
    case SESSION_DETECTING: start_timeout(e, s); break;
    case SESSION_OPEN: opaque_timeout(e, s); break;
    case SESSION_IDLE:
    case SESSION_EXCHANGE:
    case SESSION_CLOSING: http_timeout(e, s); break;
    default: break;
    }
}

/* ---- for people who look ---- */

static void describe(const struct engine *e, const struct session *s, struct engine_connection *to)
{
    *to = (struct engine_connection){
        .id = s->id, .endpoint = s->dial.endpoint, .service = s->plan ? s->plan->service : 0,
        .age_ms = (e->now - s->began_ns) / NS_PER_MS, .request_bytes = s->request_bytes,
        .response_bytes = s->response_bytes, .identity = s->identity ? s->identity->text : "", .slot = s->slot,
        .client_port = s->peer.port, .port = s->asked.port, .direction = s->direction, .state = s->state,
        .protocol = s->spoken};
    if (s->state == SESSION_DIALLING && s->dial.state == DIAL_WAITING)
        to->state = SESSION_WAITING;
    memcpy(to->client, s->peer.ip, sizeof to->client);
    memcpy(to->address, s->asked.ip, sizeof to->address);
    if (s->sni)
        memcpy(to->sni, s->sni, strlen(s->sni) + 1);
}

uint32_t engine_connections(const engine *e, struct engine_connection *to, uint32_t capacity, uint32_t skip)
{
    uint32_t count = 0;
    for (const struct list *at = e->sessions.all.prev; at != &e->sessions.all && count < capacity; at = at->prev)
        if (skip > 0)
            skip--;
        else
            describe(e, container_of(at, struct session, all), &to[count++]);
    return count;
}

uint32_t engine_live(const engine *e)
{
    return (uint32_t)e->counters[COUNTER_connections];
}
