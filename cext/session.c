/* The life of a connection: plan, first bytes, endpoint, socket, dialling, copying, end.
 *
 *   parked -> (detecting) -> (waiting) -> dialling -> open -> dead
 *
 * Client bytes are read from the start, up to one block: a port whose protocol nobody declared is dialled at once and
 * both sides race; who speaks first decides. Nothing is sent to a server before what is spoken is decided. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core.h"

#define FAILURE_COST 10.0

static void pick(struct engine *, struct session *);
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

static struct session *session_new(struct engine *e)
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

static void enter(struct engine *e, struct session *s, enum session_state state)
{
    if (s->state == SESSION_PARKED)
        LESS(e, parked);
    if (s->state == SESSION_WAITING)
        LESS(e, waiting);
    list_remove(&s->queued);
    timer_stop(&s->timer);
    s->state = (uint8_t)state;
}

static bool has_room(const struct leg *leg)
{
    return !leg->rx || leg->rx->end < sizeof leg->rx->bytes;
}

static uint32_t client_wants(const struct session *s)
{
    bool collecting = s->state != SESSION_OPEN || !s->decided;
    bool room = collecting ? has_room(&s->client) : !s->client.rx;
    bool read = room && !s->client.ended && !s->client.starved && !s->server.reset;
    bool write = s->state == SESSION_OPEN && s->server.rx;
    return (read ? EPOLLIN : 0) | (write ? EPOLLOUT : 0);
}

static uint32_t server_wants(const struct session *s)
{
    if (s->state == SESSION_DIALLING)
        return EPOLLIN | EPOLLOUT;
    bool read = !s->server.rx && !s->server.ended && !s->server.starved && !s->client.reset;
    bool write = s->client.rx && s->decided;
    return (read ? EPOLLIN : 0) | (write ? EPOLLOUT : 0);
}

void session_watch(struct engine *e, struct session *s)
{
    int failed = watch_set(e, &s->client.watch, client_wants(s));
    if (s->server.watch.fd >= 0)
        failed |= watch_set(e, &s->server.watch, server_wants(s));
    if (failed)
        session_end(e, s, FLAG_UO, true, true);
}

static struct series_key key_of(const struct session *s, enum flag flag)
{
    return (struct series_key){.source = s->source, .service = s->plan ? s->plan->service : 0, .endpoint = s->endpoint,
                               .direction = s->direction, .protocol = s->spoken, .flag = (uint8_t)flag};
}

static void count_opened(struct engine *e, struct session *s)
{
    if (s->series)
        return;
    struct series_key key = key_of(s, FLAG_NONE);
    s->series = stats_series(e->stats, &key);
    s->series->opened++;
}

static void leg_close(struct engine *e, struct leg *leg, bool reset)
{
    leg_drop(e, leg);
    if (leg->watch.fd < 0)
        return;
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (reset)
        setsockopt(leg->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    watch_close(e, &leg->watch, leg->shared);
}

static void leave_target(struct session *s)
{
    if (!s->target)
        return;
    s->target->load.pending--;
    target_unref(s->target);
    s->target = NULL;
}

void session_end(struct engine *e, struct session *s, enum flag flag, bool reset_client, bool reset_server)
{
    if (s->state == SESSION_DEAD)
        return;
    enter(e, s, SESSION_DEAD);
    count_opened(e, s);
    struct series_key key = key_of(s, flag);
    s->series->closed++;
    series_record(stats_series(e->stats, &key), e->now - s->began_ns);
    leg_close(e, &s->client, reset_client);
    leg_close(e, &s->server, reset_server);
    leave_target(s);
    if (s->plan)
        plan_unref(s->plan);
    free(s->sni);
    uint32_t index = (uint32_t)s->id - 1;
    e->sessions.table[index] = NULL;
    e->sessions.free[e->sessions.free_count++] = index;
    list_remove(&s->all);
    list_push(&e->sessions.dead, &s->queued);
    LESS(e, connections);
}

/* Refused before any byte came from a server: the client sees a reset, as if the server had refused it. */
static void give_up(struct engine *e, struct session *s, enum flag flag)
{
    COUNT(e, local_reset);
    session_end(e, s, flag, true, true);
}

/* ---- plan and first bytes ---- */

static void decide(struct engine *e, struct session *s, enum detected found)
{
    static const uint8_t spoken[] = {SPOKEN_TCP, SPOKEN_TCP, SPOKEN_TCP, SPOKEN_HTTP2, SPOKEN_TLS};
    s->decided = true;
    s->spoken = spoken[found]; /* HTTP/1 is carried as it is, and counted as what is carried */
    switch (found) {
    case DETECTED_HTTP1: COUNT(e, detected_http1); break;
    case DETECTED_HTTP2: COUNT(e, detected_http2); break;
    case DETECTED_TLS: COUNT(e, detected_tls); break;
    default: COUNT(e, detected_other); break;
    }
    if (s->state == SESSION_OPEN)
        count_opened(e, s);
}

/* Looks at the client's first bytes; undecided while more of them could still change the answer. */
static void look(struct engine *e, struct session *s)
{
    if (s->decided || !s->plan)
        return;
    const struct block *block = s->client.rx;
    bool more = !s->client.ended && has_room(&s->client);
    enum detected found = block ? detect(block->bytes, block->end) : DETECTED_MORE;
    if (found == DETECTED_MORE && more)
        return;
    char name[ENGINE_SNI_MAX];
    int sni = found == DETECTED_TLS ? detect_sni(block->bytes, block->end, name, sizeof name) : 0;
    if (sni < 0 && more)
        return;
    if (sni > 0)
        s->sni = strdup(name);
    if (block)
        plan_learn(s->plan, s->asked.port, SPEAKER_CLIENT);
    decide(e, s, found);
}

static bool is_opaque(const struct engine *e, const struct session *s)
{
    const struct pod *pod = pod_find(e, s->slot);
    for (uint32_t i = 0; pod && i < pod->opaque_count; i++)
        if (pod->opaque_ports[i] == s->asked.port)
            return true;
    return s->plan->protocol == ENGINE_OPAQUE;
}

void session_use(struct engine *e, struct session *s, struct plan *plan)
{
    enter(e, s, SESSION_DETECTING);
    plan->refs++;
    s->plan = plan;
    s->decided = is_opaque(e, s);
    look(e, s);
    if (plan->protocol == ENGINE_HTTP && !s->decided && !s->client.ended) {
        timer_start(&e->wheel, &s->timer, ms_from_now(e, e->config.detect_timeout_ms));
        session_watch(e, s);
    } else {
        pick(e, s);
    }
}

static void pass_through(struct engine *e, struct session *s)
{
    int32_t slot = s->direction == ENGINE_INBOUND ? (int32_t)s->slot : -1;
    struct plan *plan = plan_through(&s->asked, slot, e->now, e->config.default_rtt_ms * (double)NS_PER_MS);
    if (!plan) {
        COUNT(e, no_memory);
        give_up(e, s, FLAG_UO);
        return;
    }
    COUNT(e, passed_through);
    session_use(e, s, plan);
    plan_unref(plan);
}

static void park(struct engine *e, struct session *s)
{
    if (e->counters[COUNTER_parked] >= e->config.max_parked) {
        COUNT(e, park_limited);
        give_up(e, s, FLAG_UO);
        return;
    }
    enter(e, s, SESSION_PARKED);
    list_push(&e->sessions.parked, &s->queued);
    timer_start(&e->wheel, &s->timer, ms_from_now(e, e->config.park_timeout_ms));
    COUNT(e, parked);
    COUNT(e, need_plan);
    struct engine_event event = {.kind = ENGINE_NEED_PLAN, .connection = s->id, .slot = s->slot,
                                 .direction = s->direction, .port = s->asked.port};
    memcpy(event.address, s->asked.ip, sizeof event.address);
    event_push(e, &event);
}

void session_route(struct engine *e, struct session *s)
{
    struct plan *plan = plan_find(e, &s->asked);
    if (plan)
        session_use(e, s, plan);
    else
        park(e, s);
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

int session_start(struct engine *e, int fd, bool shared, uint32_t slot, uint8_t direction,
                  const struct endpoint_address *peer, const struct endpoint_address *asked)
{
    bool room = e->counters[COUNTER_connections] < e->config.max_connections;
    struct session *s = room ? session_new(e) : NULL;
    if (!s) {
        e->counters[room ? COUNTER_no_memory : COUNTER_accept_limited]++;
        turn_away(fd);
        return room ? -ENOMEM : -EAGAIN;
    }
    s->client = (struct leg){.watch = {.fd = fd, .kind = WATCH_CLIENT}, .session = s, .shared = shared,
                             .born = e->batch_number};
    s->server = (struct leg){.watch = {.fd = -1, .kind = WATCH_SERVER}, .session = s};
    s->slot = slot;
    s->direction = direction;
    s->peer = *peer;
    s->asked = *asked;
    const struct pod *pod = pod_find(e, slot);
    s->source = direction == ENGINE_INBOUND ? source_of(e, peer->ip) : pod ? pod->source : 0;
    session_watch(e, s);
    if (s->state != SESSION_DEAD)
        session_route(e, s);
    return 0;
}

/* ---- endpoint, socket, dialling ---- */

static void retry(struct engine *e, struct session *s)
{
    leave_target(s);
    if (s->dials >= DIALS_MAX) {
        give_up(e, s, FLAG_UF);
        return;
    }
    COUNT(e, dial_retried);
    pick(e, s);
}

static void wait_for_socket(struct engine *e, struct session *s, struct stock *stock)
{
    if (e->counters[COUNTER_waiting] >= e->config.max_waiting) {
        COUNT(e, wait_limited);
        give_up(e, s, FLAG_UO);
        return;
    }
    enter(e, s, SESSION_WAITING);
    COUNT(e, waiting);
    COUNT(e, waited);
    list_push(&stock->waiters, &s->queued);
    timer_start(&e->wheel, &s->timer, ms_from_now(e, e->config.connect_timeout_ms));
    session_watch(e, s);
}

static void pick(struct engine *e, struct session *s)
{
    struct target *target = plan_pick(e, s->plan, s->tried, s->dials);
    if (!target) {
        if (s->dials == 0)
            COUNT(e, no_endpoint);
        give_up(e, s, s->dials ? FLAG_UF : FLAG_UH);
        return;
    }
    s->tried[s->dials++] = &target->load;
    s->target = target;
    s->endpoint = target->id;
    target->load.pending++;
    struct pod *pod = pod_find(e, target->slot >= 0 ? (uint32_t)target->slot : s->slot);
    if (!pod) {
        COUNT(e, no_pod);
        retry(e, s);
        return;
    }
    int family = !address_is_v4(target->address.ip);
    int fd = stock_take(e, pod, family);
    if (fd >= 0)
        session_dial(e, s, fd);
    else
        wait_for_socket(e, s, &pod->stock[family]);
}

void session_no_socket(struct engine *e, struct session *s)
{
    retry(e, s);
}

/* An endpoint that refuses is not a fast one: for the balancer it costs ten times what an unknown one does. */
static void dial_failed(struct engine *e, struct session *s, int error)
{
    double cost_ns = e->config.default_rtt_ms * (double)NS_PER_MS * FAILURE_COST;
    balance_observe(&s->target->load, cost_ns, clock_ns(), e->config.decay_ms * (double)NS_PER_MS);
    switch (error) {
    case ECONNREFUSED:
    case ECONNRESET: COUNT(e, dial_refused); break;
    case ETIMEDOUT: COUNT(e, dial_timeout); break;
    case ENETUNREACH:
    case EHOSTUNREACH: COUNT(e, dial_unreachable); break;
    default: COUNT(e, dial_failed); break;
    }
    leg_close(e, &s->server, false);
    retry(e, s);
}

/* ---- open ---- */

static void pass_end(struct leg *from, struct leg *to)
{
    if (!from->ended || from->rx || from->reset || to->shut)
        return;
    to->shut = true;
    shutdown(to->watch.fd, SHUT_WR);
}

/* After every step of an open session: passes on what ended, and ends it when both sides have. */
static void settle(struct engine *e, struct session *s)
{
    struct leg *client = &s->client, *server = &s->server;
    bool client_done = client->ended && !client->rx, server_done = server->ended && !server->rx;
    if (client->reset && (client_done || server->reset)) {
        COUNT(e, client_reset);
        session_end(e, s, FLAG_DC, true, true);
    } else if (server_done && server->reset) {
        COUNT(e, server_reset);
        session_end(e, s, FLAG_UC, true, true);
    } else if (client_done && server_done) {
        session_end(e, s, FLAG_NONE, false, false);
    } else {
        pass_end(client, server);
        pass_end(server, client);
        session_watch(e, s);
    }
}

static void arm_open(struct engine *e, struct session *s)
{
    bool held = !s->decided && s->client.rx;
    uint64_t due_ns = held ? ms_from_now(e, e->config.detect_hold_ms)
                           : s->active_ns + e->config.idle_timeout_ms * NS_PER_MS;
    timer_start(&e->wheel, &s->timer, due_ns);
}

static void client_to_server(struct engine *e, struct session *s)
{
    bool held = s->client.rx;
    if (!s->decided) {
        leg_fill(e, &s->client);
        look(e, s);
    }
    if (s->decided)
        leg_flow(e, &s->client, &s->server);
    else if (!held && s->client.rx)
        arm_open(e, s);
}

static void server_to_client(struct engine *e, struct session *s)
{
    if (!s->decided) {
        leg_fill(e, &s->server);
        if (!s->server.rx && !s->server.ended)
            return;
        if (s->server.rx) {
            COUNT(e, server_first);
            plan_learn(s->plan, s->asked.port, SPEAKER_SERVER);
        }
        decide(e, s, DETECTED_OTHER);
    }
    leg_flow(e, &s->server, &s->client);
}

static void opened(struct engine *e, struct session *s)
{
    uint64_t now = clock_ns();
    balance_observe(&s->target->load, (double)(now - s->dialled_ns), now, e->config.decay_ms * (double)NS_PER_MS);
    enter(e, s, SESSION_OPEN);
    s->client.starved = false;
    s->active_ns = e->now;
    if (s->decided)
        count_opened(e, s);
    arm_open(e, s);
    if (s->client.rx || s->client.ended)
        client_to_server(e, s);
    settle(e, s);
}

void session_dial(struct engine *e, struct session *s, int fd)
{
    enter(e, s, SESSION_DIALLING);
    s->server = (struct leg){.watch = {.fd = fd, .kind = WATCH_SERVER}, .session = s, .shared = true,
                             .born = e->batch_number};
    s->dialled_ns = clock_ns();
    int result = dial(e, s, fd);
    if (result < 0) {
        dial_failed(e, s, -result);
    } else if (result > 0) {
        opened(e, s);
    } else {
        timer_start(&e->wheel, &s->timer, ms_from_now(e, e->config.connect_timeout_ms));
        session_watch(e, s);
    }
}

static void on_dialling(struct engine *e, struct session *s)
{
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(s->server.watch.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error)
        dial_failed(e, s, error);
    else
        opened(e, s);
}

static void on_early_client(struct engine *e, struct session *s)
{
    leg_fill(e, &s->client);
    if (s->client.reset) {
        COUNT(e, client_reset);
        session_end(e, s, FLAG_DC, true, true);
        return;
    }
    look(e, s);
    if (s->state == SESSION_DETECTING && (s->decided || s->client.ended))
        pick(e, s);
    else
        session_watch(e, s);
}

static void on_open(struct engine *e, struct leg *leg, uint32_t events)
{
    struct session *s = leg->session;
    bool client = leg == &s->client;
    bool readable = events & (EPOLLIN | EPOLLERR | EPOLLHUP), writable = events & EPOLLOUT;
    if (client ? readable : writable)
        client_to_server(e, s);
    if (client ? writable : readable)
        server_to_client(e, s);
    settle(e, s);
}

void session_event(struct engine *e, struct leg *leg, uint32_t events)
{
    struct session *s = leg->session;
    if (s->state == SESSION_DEAD || leg->watch.fd < 0 || leg->born == e->batch_number)
        return;
    if ((events & (EPOLLERR | EPOLLHUP)) && leg->watch.wanted == 0)
        watch_mute(e, &leg->watch); /* errors cannot be unwanted: level-triggered they would spin */
    if (s->state == SESSION_OPEN)
        on_open(e, leg, events);
    else if (leg == &s->server)
        on_dialling(e, s);
    else
        on_early_client(e, s);
}

void sessions_feed(struct engine *e)
{
    while (!list_empty(&e->sessions.starved) && e->counters[COUNTER_buffers] < e->config.max_buffers) {
        struct session *s = container_of(list_shift(&e->sessions.starved), struct session, queued);
        s->client.starved = s->server.starved = false;
        session_watch(e, s);
    }
}

/* ---- timeouts ---- */

static void on_open_timer(struct engine *e, struct session *s)
{
    if (!s->decided && s->client.rx) {
        COUNT(e, detect_timeout);
        decide(e, s, DETECTED_OTHER);
        client_to_server(e, s);
        arm_open(e, s);
        settle(e, s);
    } else if (e->now - s->active_ns >= e->config.idle_timeout_ms * NS_PER_MS) {
        COUNT(e, idle_timeout);
        session_end(e, s, FLAG_SI, true, true);
    } else {
        arm_open(e, s);
    }
}

static void on_timer(void *owner, struct timer *timer)
{
    struct engine *e = owner;
    struct session *s = container_of(timer, struct session, timer);
    switch (s->state) {
    case SESSION_PARKED:
        COUNT(e, park_timeout);
        pass_through(e, s);
        break;
    case SESSION_DETECTING:
        COUNT(e, detect_timeout);
        decide(e, s, DETECTED_OTHER);
        pick(e, s);
        break;
    case SESSION_WAITING:
        COUNT(e, wait_timeout);
        retry(e, s);
        break;
    case SESSION_DIALLING:
        dial_failed(e, s, ETIMEDOUT);
        break;
    case SESSION_OPEN:
        on_open_timer(e, s);
        break;
    default:
        break;
    }
}

/* ---- for people who look ---- */

static void describe(const struct engine *e, const struct session *s, struct engine_connection *to)
{
    *to = (struct engine_connection){
        .id = s->id, .endpoint = s->endpoint, .service = s->plan ? s->plan->service : 0,
        .age_ms = (e->now - s->began_ns) / NS_PER_MS, .request_bytes = s->request_bytes,
        .response_bytes = s->response_bytes, .slot = s->slot, .client_port = s->peer.port, .port = s->asked.port,
        .direction = s->direction, .state = s->state, .protocol = s->spoken};
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
