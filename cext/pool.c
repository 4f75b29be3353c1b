/* Connections to endpoints: made, kept between exchanges, closed.
 *
 * Idle ones wait by {client address, endpoint, where they were made, by tunnel or not}, newest first, so that an app
 * sees on each of its connections one client only and a burst's surplus is what grows old. Whatever epoll says of an
 * idle one, an end or bytes that nobody asked for, it is of no use any more. A pool lives as long as an upstream of it,
 * in use or idle, so that an exchange on the beaten track allocates nothing. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core.h"

#define BUCKETS 1024 /* power of two */

struct pool_key {
    uint8_t source[16];
    uint8_t ip[16];
    uint64_t endpoint;
    uint32_t made_in;
    uint16_t port;
    uint16_t secured; /* whoever is to be reached by tunnel is not reached by what was made before that was so */
};

_Static_assert(sizeof(struct pool_key) == 48, "the key has padding");

struct pool {
    struct pool *next; /* in its bucket */
    struct pool_key key;
    struct list idle;
    uint32_t idle_count;
    uint32_t refs; /* upstreams */
};

static void on_timer(void *owner, struct timer *timer);

int pool_init(struct engine *e)
{
    list_init(&e->pools.idle);
    list_init(&e->pools.dead);
    timer_init(&e->pools.timer, on_timer);
    e->pools.buckets = calloc(BUCKETS, sizeof *e->pools.buckets);
    return e->pools.buckets ? 0 : -1;
}

/* ---- pools ---- */

static struct pool_key key_of(const struct session *s, const struct target *target)
{
    struct pool_key key = {.endpoint = target->id};
    memcpy(key.source, s->peer.ip, 16);
    memcpy(key.ip, target->address.ip, 16);
    key.made_in = dialled_in(s, target);
    key.secured = goes_by_tunnel(s, target);
    key.port = target->address.port ? target->address.port : s->asked.port;
    return key;
}

static struct pool **place_of(const struct engine *e, const struct pool_key *key)
{
    uint64_t words[6], hash = 0;
    memcpy(words, key, sizeof words);
    for (int i = 0; i < 6; i++)
        hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ull, hash ^= hash >> 32;
    struct pool **at = &e->pools.buckets[hash & (BUCKETS - 1)];
    while (*at && memcmp(&(*at)->key, key, sizeof *key) != 0)
        at = &(*at)->next;
    return at;
}

static struct pool *pool_of(struct engine *e, const struct session *s)
{
    struct pool_key key = key_of(s, s->dial.target);
    struct pool **place = place_of(e, &key);
    struct pool *pool = *place;
    if (pool || !(pool = calloc(1, sizeof *pool)))
        return pool;
    pool->key = key;
    list_init(&pool->idle);
    *place = pool;
    return pool;
}

static void pool_unref(struct engine *e, struct pool *pool)
{
    if (--pool->refs > 0)
        return;
    *place_of(e, &pool->key) = pool->next;
    free(pool);
}

/* ---- upstreams ---- */

struct upstream *upstream_new(struct engine *e, int fd, uint32_t made_in)
{
    struct upstream *up = calloc(1, sizeof *up);
    if (!up) {
        COUNT(e, no_memory);
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    up->leg = (struct leg){.watch = {.fd = fd, .kind = WATCH_SERVER}, .shared = true};
    list_init(&up->leg.lapse);
    list_init(&up->queued);
    list_init(&up->idle);
    up->made_in = made_in;
    COUNT(e, upstreams);
    return up;
}

static void leave_idle(struct engine *e, struct upstream *up)
{
    if (!up->target)
        return;
    list_remove(&up->queued);
    list_remove(&up->idle);
    up->pool->idle_count--;
    target_unref(e, up->target);
    up->target = NULL;
    LESS(e, pooled);
}

void upstream_close(struct engine *e, struct upstream *up, bool reset)
{
    leave_idle(e, up);
    leg_close(e, &up->leg, reset);
    up->leg.session = NULL;
    if (up->pool)
        pool_unref(e, up->pool);
    list_push(&e->pools.dead, &up->idle);
    LESS(e, upstreams);
}

void pool_bury(struct engine *e)
{
    struct list *link;
    while ((link = list_shift(&e->pools.dead)))
        free(container_of(link, struct upstream, idle));
}

struct upstream *pool_take(struct engine *e, struct session *s, const struct target *target)
{
    struct pool_key key = key_of(s, target);
    struct pool *pool = *place_of(e, &key);
    if (!pool || list_empty(&pool->idle))
        return NULL;
    struct upstream *up = container_of(pool->idle.next, struct upstream, queued);
    leave_idle(e, up);
    up->leg.session = s;
    COUNT(e, pool_reused);
    return up;
}

/* Whether another exchange can begin on it, and we want to keep it. */
static bool is_kept(struct engine *e, struct session *s, struct upstream *up)
{
    const struct engine_config *c = &e->config;
    if (up->doomed || up->leg.ended || up->leg.hangup || up->leg.shut || s->dial.target->gone || e->draining)
        return false;
    if (!up->pool) {
        up->pool = pool_of(e, s);
        if (!up->pool)
            return false;
        up->pool->refs++;
    }
    if (up->pool->idle_count < c->max_pooled_per_key && e->counters[COUNTER_pooled] < c->max_pooled)
        return true;
    COUNT(e, pool_limited);
    return false;
}

void pool_put(struct engine *e, struct session *s)
{
    struct upstream *up = s->dial.up;
    if (!is_kept(e, s, up)) {
        dial_leave(e, s, false);
        return;
    }
    up->leg.session = NULL;
    up->target = s->dial.target;
    up->target->refs++;
    up->used = true;
    up->idle_ns = e->now;
    up->pool->idle_count++;
    list_unshift(&up->pool->idle, &up->queued);
    list_push(&e->pools.idle, &up->idle);
    COUNT(e, pooled);
    if (!timer_running(&e->pools.timer))
        timer_start(&e->wheel, &e->pools.timer, ms_from_now(e, e->config.pool_idle_ms));
    s->dial.up = NULL;
    dial_leave(e, s, false);
}

void pool_event(struct engine *e, struct upstream *up)
{
    if (leg_is_closed(&up->leg))
        return;
    COUNT(e, pool_ended);
    upstream_close(e, up, false);
}

/* ---- old and unwanted ones ---- */

static void on_timer(void *owner, struct timer *timer)
{
    struct engine *e = owner;
    uint64_t age_ns = e->config.pool_idle_ms * NS_PER_MS;
    while (!list_empty(&e->pools.idle)) {
        struct upstream *up = container_of(e->pools.idle.next, struct upstream, idle);
        if (e->now - up->idle_ns < age_ns) {
            timer_start(&e->wheel, timer, up->idle_ns + age_ns);
            return;
        }
        COUNT(e, pool_idle_timeout);
        upstream_close(e, up, false);
    }
}

static void drop(struct engine *e, bool (*unwanted)(const struct upstream *, uint32_t), uint32_t slot)
{
    struct list *next;
    for (struct list *at = e->pools.idle.next; at != &e->pools.idle; at = next) {
        struct upstream *up = container_of(at, struct upstream, idle);
        next = at->next;
        if (!unwanted(up, slot))
            continue;
        COUNT(e, pool_dropped);
        upstream_close(e, up, false);
    }
}

static bool is_of_gone(const struct upstream *up, uint32_t slot)
{
    (void)slot;
    return up->target->gone;
}

static bool is_made_in(const struct upstream *up, uint32_t slot)
{
    return up->made_in == slot;
}

static bool is_any(const struct upstream *up, uint32_t slot)
{
    (void)up, (void)slot;
    return true;
}

void pool_drop_gone(struct engine *e)
{
    drop(e, is_of_gone, 0);
}

void pool_drop_slot(struct engine *e, uint32_t slot)
{
    drop(e, is_made_in, slot);
}

void pool_drop_all(struct engine *e)
{
    drop(e, is_any, 0);
}

void pool_free(struct engine *e)
{
    if (!e->pools.buckets)
        return;
    pool_drop_all(e);
    pool_bury(e);
    free(e->pools.buckets);
}
