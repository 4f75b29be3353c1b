/* The table of reaches, and what is done to all tunnels. */
#include "reach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 1024
#define STREAMS_MAX 100  /* of one tunnel; then there is another (ztunnel's number) */
#define IDLE_MAX 1024    /* reaches kept without a tunnel, for their session or their refusal */
#define RETRY_MS 100
#define RETRY_MS_MAX 1000

struct reach {
    struct reach *next; /* in its bucket */
    struct list idle;   /* among those without a tunnel, oldest first */
    struct list tunnels;
    struct whom whom;
    struct name *source; /* who we are there */
    SSL_SESSION *session;
    uint64_t trust_version; /* when it was made, or refused */
    uint64_t retry_ns;      /* not before */
    uint32_t refusals;      /* in a row */
    uint32_t slot;
};

/* A slot may be another pod's by now, or its pod another's: who we are is part of the key. */
static const struct name *source_of_slot(const struct engine *e, uint32_t slot)
{
    const struct pod *pod = pod_find(e, slot);
    return pod ? pod->identity : NULL;
}

static bool same(const struct whom *a, const struct whom *b)
{
    return a->peer == b->peer && a->workload == b->workload && a->to.port == b->to.port &&
           !memcmp(a->to.ip, b->to.ip, sizeof a->to.ip);
}

static struct reach **place_of(const struct engine *e, uint32_t slot, const struct name *source, const struct whom *whom)
{
    uint64_t hash = hash_address(whom->to.ip, whom->to.port) ^ (slot + 1) * 0x9e3779b97f4a7c15ull;
    struct reach **at = &e->tunnels.reaches[hash % BUCKETS];
    while (*at && ((*at)->slot != slot || (*at)->source != source || !same(&(*at)->whom, whom)))
        at = &(*at)->next;
    return at;
}

static void reach_free(struct engine *e, struct reach *reach)
{
    *place_of(e, reach->slot, reach->source, &reach->whom) = reach->next;
    list_remove(&reach->idle);
    name_unref(e, reach->source);
    name_unref(e, reach->whom.peer);
    SSL_SESSION_free(reach->session);
    free(reach);
}

static bool takes_more(const struct tunnel *t)
{
    uint32_t max = t->state == TUNNEL_OPEN ? h2_streams_max(&t->h2) : STREAMS_MAX;
    return !t->h2.went_away && t->state != TUNNEL_DEAD && t->h2.stream_count < (max < STREAMS_MAX ? max : STREAMS_MAX);
}

struct tunnel *tunnel_find(struct engine *e, uint32_t slot, const struct whom *whom)
{
    struct reach *reach = *place_of(e, slot, source_of_slot(e, slot), whom);
    for (struct list *at = reach ? reach->tunnels.next : NULL; reach && at != &reach->tunnels; at = at->next)
        if (takes_more(container_of(at, struct tunnel, all)))
            return container_of(at, struct tunnel, all);
    return NULL;
}

static void forget_oldest(struct engine *e)
{
    e->tunnels.idle_count--;
    reach_free(e, container_of(e->tunnels.idle.next, struct reach, idle));
}

struct reach *reach_join(struct engine *e, struct tunnel *t, const struct whom *whom)
{
    const struct pod *pod = pod_find(e, t->slot); /* there: tunnel_dial had its credential */
    struct reach **place = place_of(e, t->slot, pod->identity, whom), *reach = *place;
    if (!reach) {
        if (e->tunnels.idle_count >= IDLE_MAX)
            forget_oldest(e);
        place = place_of(e, t->slot, pod->identity, whom);
        if (!(reach = calloc(1, sizeof *reach)))
            return NULL;
        list_init(&reach->idle);
        list_init(&reach->tunnels);
        reach->slot = t->slot;
        reach->whom = *whom;
        reach->source = name_ref(pod->identity);
        name_ref(whom->peer);
        *place = reach;
    }
    if (!list_empty(&reach->idle)) {
        list_remove(&reach->idle);
        e->tunnels.idle_count--;
    }
    list_push(&reach->tunnels, &t->all);
    return t->reach = reach;
}

static void note_refusal(struct engine *e, struct reach *reach)
{
    uint32_t shift = reach->refusals < 4 ? reach->refusals : 4;
    uint64_t wait_ns = ((uint64_t)RETRY_MS << shift) * NS_PER_MS;
    reach->refusals++;
    reach->trust_version = e->trust_version;
    reach->retry_ns = e->now + (wait_ns < RETRY_MS_MAX * NS_PER_MS ? wait_ns : RETRY_MS_MAX * NS_PER_MS);
}

bool reach_waits(const struct engine *e, uint32_t slot, const struct whom *whom)
{
    const struct reach *reach = *place_of(e, slot, source_of_slot(e, slot), whom);
    return reach && reach->refusals && reach->trust_version == e->trust_version && e->now < reach->retry_ns;
}

void reach_leave(struct engine *e, struct tunnel *t, SSL_SESSION *session, bool refused)
{
    struct reach *reach = t->reach;
    if (refused)
        note_refusal(e, reach);
    else if (t->greeted)
        reach->refusals = 0;
    if (session && t->trust_version != e->trust_version) { /* who was judged by another trust is judged anew */
        SSL_SESSION_free(session);
        session = NULL;
    }
    if (session) {
        SSL_SESSION_free(reach->session);
        reach->session = session;
        reach->trust_version = e->trust_version;
    }
    if (!list_empty(&reach->tunnels))
        return;
    if (!reach->session && !reach->refusals) {
        reach_free(e, reach);
        return;
    }
    list_push(&e->tunnels.idle, &reach->idle);
    e->tunnels.idle_count++;
}

const struct endpoint_address *reach_address(const struct reach *reach)
{
    return &reach->whom.to;
}

SSL_SESSION *reach_session(const struct engine *e, const struct reach *reach)
{
    bool good = reach->session && reach->trust_version == e->trust_version && SSL_SESSION_is_resumable(reach->session);
    return good ? reach->session : NULL;
}

/* ---- all tunnels ---- */

int tunnels_init(struct engine *e)
{
    list_init(&e->tunnels.accepted);
    list_init(&e->tunnels.dirty);
    list_init(&e->tunnels.again);
    list_init(&e->tunnels.dead);
    list_init(&e->tunnels.idle);
    list_init(&e->credentials);
    list_init(&e->streams_told);
    e->tunnels.reaches = calloc(BUCKETS, sizeof *e->tunnels.reaches);
    return e->tunnels.reaches ? 0 : -1;
}

static void each_in(struct engine *e, struct list *among, void (*act)(struct engine *, struct tunnel *, uint32_t), uint32_t number)
{
    struct list *next;
    for (struct list *at = among->next; at != among; at = next) {
        next = at->next;
        act(e, container_of(at, struct tunnel, all), number);
    }
}

static void each(struct engine *e, void (*act)(struct engine *, struct tunnel *, uint32_t), uint32_t number)
{
    each_in(e, &e->tunnels.accepted, act, number);
    for (uint32_t i = 0; i < BUCKETS; i++)
        for (struct reach *reach = e->tunnels.reaches[i], *next; reach; reach = next) {
            next = reach->next; /* it may be freed with its last tunnel */
            each_in(e, &reach->tunnels, act, number);
        }
}

/* Who is denied is cut off. Who hangs from a root that is believed no more gets no new streams: what is under way was
 * judged when it began, and a root may be replaced without cutting anybody off. */
static void judge(struct engine *e, struct tunnel *t, uint32_t number)
{
    (void)number;
    if (tls_is_denied(t->tls)) {
        COUNT(e, tunnel_denied);
        tunnel_close(e, t, EACCES);
    } else if (t->state == TUNNEL_OPEN && !tls_is_believed(t->tls)) {
        COUNT(e, tunnel_distrusted);
        h2_goodbye(&t->h2);
    }
}

void tunnels_judge(struct engine *e)
{
    each(e, judge, 0);
}

static void drop(struct engine *e, struct tunnel *t, uint32_t slot)
{
    if (t->slot == slot)
        tunnel_close(e, t, ECONNRESET);
}

void tunnels_drop_slot(struct engine *e, uint32_t slot)
{
    each(e, drop, slot);
}

static void leave(struct engine *e, struct tunnel *t, uint32_t slot)
{
    (void)e;
    if (slot == SLOTS_MAX || t->slot == slot)
        h2_goodbye(&t->h2);
}

void tunnels_leave(struct engine *e)
{
    each(e, leave, SLOTS_MAX);
}

void tunnels_leave_slot(struct engine *e, uint32_t slot)
{
    each(e, leave, slot);
}

static void cut(struct engine *e, struct tunnel *t, uint32_t number)
{
    (void)number;
    tunnel_close(e, t, ECONNRESET);
}

void tunnels_free(struct engine *e)
{
    if (!e->tunnels.reaches)
        return;
    each(e, cut, 0);
    tunnels_bury(e);
    while (!list_empty(&e->tunnels.idle))
        reach_free(e, container_of(e->tunnels.idle.next, struct reach, idle));
    free(e->tunnels.reaches);
}
