/* Pods: who they are, what they accept, and what ends with them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel.h"

struct pod *pod_find(const struct engine *e, uint32_t slot)
{
    return slot < SLOTS_MAX ? e->pods[slot] : NULL;
}

/* false: no memory. */
static bool name_of(struct engine *e, const char *text, struct name **name)
{
    *name = text && *text ? name_get(e, text) : NULL;
    return *name || !text || !*text;
}

static int pod_describe(struct engine *e, struct pod *pod, const struct engine_pod *from)
{
    struct name *identity, *principal;
    bool named = name_of(e, from->identity, &identity) & name_of(e, from->principal, &principal);
    uint16_t *ports = from->opaque_count ? malloc(from->opaque_count * sizeof *ports) : NULL;
    bool described = from->baggage && *from->baggage;
    char *baggage = described ? strdup(from->baggage) : NULL;
    if (!named || (from->opaque_count && !ports) || (described && !baggage)) {
        name_unref(e, identity);
        name_unref(e, principal);
        free(baggage);
        free(ports);
        return -ENOMEM;
    }
    if (ports)
        memcpy(ports, from->opaque_ports, from->opaque_count * sizeof *ports);
    name_unref(e, pod->identity);
    name_unref(e, pod->principal);
    free(pod->baggage);
    free(pod->opaque_ports);
    pod->baggage = baggage;
    pod->identity = identity;
    pod->principal = principal;
    pod->opaque_ports = ports;
    pod->opaque_count = from->opaque_count;
    pod->slot = from->slot;
    pod->source = from->source;
    pod->mtls = from->mtls;
    return 0;
}

/* What speaks in a former identity takes nothing new: tunnels, and connections that would go back to the pool. */
static void part_with(struct engine *e, uint32_t slot)
{
    for (struct list *at = e->sessions.all.next; at != &e->sessions.all; at = at->next) {
        struct session *s = container_of(at, struct session, all);
        if (s->dial.up && s->dial.up->made_in == slot)
            s->dial.up->doomed = true;
    }
    pool_drop_slot(e, slot);
    tunnels_leave_slot(e, slot);
}

/* A pod that accepts mutual TLS only, from now on. */
static void end_plaintext(struct engine *e, uint32_t slot)
{
    struct list *next;
    for (struct list *at = e->sessions.all.next; at != &e->sessions.all; at = next) {
        struct session *s = container_of(at, struct session, all);
        next = at->next;
        if (s->slot != slot || s->direction != ENGINE_INBOUND || s->tunnelled)
            continue;
        COUNT(e, plaintext_refused);
        session_end(e, s, FLAG_LR, true, true);
    }
}

int engine_add_pod(engine *e, const struct engine_pod *from)
{
    if (from->slot >= SLOTS_MAX || from->mtls > ENGINE_MTLS_DISABLED)
        return -EINVAL;
    struct pod *pod = pod_find(e, from->slot), *fresh = NULL;
    if (!pod && !(pod = fresh = calloc(1, sizeof *pod)))
        return -ENOMEM;
    struct name *before = name_ref(pod->identity);
    if (pod_describe(e, pod, from) < 0) {
        name_unref(e, before);
        free(fresh);
        return -ENOMEM;
    }
    engine_begin(e);
    if (before && before != pod->identity)
        part_with(e, pod->slot);
    name_unref(e, before);
    if (!fresh) {
        if (pod->mtls == ENGINE_MTLS_STRICT)
            end_plaintext(e, pod->slot);
        engine_finish(e);
        return 0;
    }
    stock_init(e, pod);
    e->pods[pod->slot] = pod;
    for (int family = 0; family < 2; family++)
        stock_check(e, pod, family);
    engine_finish(e);
    return 0;
}

/* Who has not got a server yet must end: the slot will be another pod's, with another namespace. */
static void end_sessions(struct engine *e, uint32_t slot, bool all)
{
    struct list *next;
    for (struct list *at = e->sessions.all.next; at != &e->sessions.all; at = next) {
        struct session *s = container_of(at, struct session, all);
        next = at->next;
        const struct dial *d = &s->dial;
        bool client = s->slot == slot, server = d->target && d->target->slot == (int32_t)slot;
        bool served = s->state == SESSION_OPEN || d->state == DIAL_CONNECTED;
        if (d->up && d->up->made_in == slot)
            d->up->doomed = true;
        bool waits = !served && s->state != SESSION_IDLE && s->state != SESSION_CLOSING;
        if (server && !client && !all && waits && s->exchange)
            dial_without_socket(e, &s->dial); /* the request may have another endpoint */
        else if ((client || server) && (all || waits))
            session_end(e, s, FLAG_LR, true, true);
        else if (client && s->state != SESSION_OPEN)
            http_orphan(e, s);
    }
    pool_drop_slot(e, slot);
}

void engine_remove_pod(engine *e, uint32_t slot, int close_connections)
{
    struct pod *pod = pod_find(e, slot);
    if (!pod)
        return;
    engine_begin(e);
    listener_close(e, &pod->listeners[ENGINE_OUTBOUND]);
    listener_close(e, &pod->listeners[ENGINE_INBOUND]);
    e->pods[slot] = NULL;
    stock_free(e, pod);
    if (close_connections)
        tunnels_drop_slot(e, slot);
    else
        tunnels_leave_slot(e, slot);
    end_sessions(e, slot, close_connections);
    name_unref(e, pod->identity);
    name_unref(e, pod->principal);
    free(pod->baggage);
    policies_free(e, pod);
    free(pod->opaque_ports);
    free(pod);
    engine_finish(e);
}

void pods_free(struct engine *e)
{
    for (uint32_t slot = 0; slot < SLOTS_MAX; slot++)
        if (e->pods[slot])
            engine_remove_pod(e, slot, true);
    free(e->pods);
}
