/* Plans by address, their endpoints, and what was learned of both. A plan is never changed once it is in the table:
 * a new one takes its place and inherits the targets that it names again; sessions keep the one they began with. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

#define BUCKETS_AT_FIRST 256

static struct target *target_of(struct load *load)
{
    return container_of(load, struct target, load);
}

void target_unref(struct engine *e, struct target *target)
{
    if (--target->refs > 0)
        return;
    name_unref(e, target->peer);
    name_unref(e, target->node);
    free(target);
}

void plan_unref(struct engine *e, struct plan *plan)
{
    if (--plan->refs > 0)
        return;
    for (uint32_t i = 0; i < plan->count; i++)
        target_unref(e, target_of(plan->loads[i]));
    name_unref(e, plan->host);
    free(plan->cumulative);
    free(plan);
}

static bool same_address(const struct endpoint_address *a, const struct endpoint_address *b)
{
    return a->port == b->port && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

static struct plan **place_of(const struct plans *plans, const struct endpoint_address *address)
{
    struct plan **at = &plans->buckets[hash_address(address->ip, address->port) & (plans->size - 1)];
    while (*at && !same_address(&(*at)->address, address))
        at = &(*at)->next;
    return at;
}

struct plan *plan_find(const struct engine *e, const struct endpoint_address *address)
{
    if (e->plans.size == 0)
        return NULL;
    struct plan *plan = *place_of(&e->plans, address);
    if (plan)
        return plan;
    struct endpoint_address any = *address;
    any.port = 0;
    return *place_of(&e->plans, &any);
}

static int grow(struct plans *plans)
{
    struct plans bigger = {.size = plans->size ? plans->size * 2 : BUCKETS_AT_FIRST, .count = plans->count};
    bigger.buckets = calloc(bigger.size, sizeof *bigger.buckets);
    if (!bigger.buckets)
        return -ENOMEM;
    for (uint32_t i = 0; i < plans->size; i++)
        while (plans->buckets[i]) {
            struct plan *plan = plans->buckets[i];
            plans->buckets[i] = plan->next;
            plan->next = NULL;
            *place_of(&bigger, &plan->address) = plan;
        }
    free(plans->buckets);
    *plans = bigger;
    return 0;
}

static bool is_said(const char *text)
{
    return text && *text;
}

static struct target *target_new(struct engine *e, const struct engine_endpoint *endpoint)
{
    struct target *target = calloc(1, sizeof *target);
    if (!target)
        return NULL;
    target->refs = 1;
    target->near = true;
    target->id = endpoint->id;
    memcpy(target->address.ip, endpoint->address, 16);
    target->address.port = endpoint->port;
    target->slot = endpoint->slot;
    target->load.weight = endpoint->weight;
    balance_start(&target->load, e->config.default_rtt_ms * (double)NS_PER_MS, e->now);
    bool fine = !is_said(endpoint->peer) || (target->peer = name_get(e, endpoint->peer));
    if (fine && (!is_said(endpoint->node) || (target->node = name_get(e, endpoint->node))))
        return target;
    name_unref(e, target->peer);
    free(target);
    return NULL;
}

static bool is_name(const struct name *name, const char *text)
{
    return strcmp(name ? name->text : "", text ? text : "") == 0;
}

static bool is_target(const struct target *target, const struct engine_endpoint *endpoint)
{
    return target->id == endpoint->id && target->address.port == endpoint->port && target->slot == endpoint->slot &&
           memcmp(target->address.ip, endpoint->address, 16) == 0 && is_name(target->peer, endpoint->peer) &&
           is_name(target->node, endpoint->node);
}

/* The old plan's target for this endpoint, searched from where the one before it was found: lists change little. */
static struct target *inherited(struct plan *old, const struct engine_endpoint *endpoint, uint32_t *hint)
{
    for (uint32_t i = 0; old && i < old->count; i++) {
        uint32_t index = (*hint + i) % old->count;
        struct target *target = target_of(old->loads[index]);
        if (!is_target(target, endpoint))
            continue;
        target->refs++;
        target->load.weight = endpoint->weight;
        *hint = index + 1;
        return target;
    }
    return NULL;
}

/* Running sums, only where weights differ or are 0. */
static int add_weights(struct plan *plan)
{
    bool alike = true;
    for (uint32_t i = 0; i < plan->count; i++)
        alike = alike && plan->loads[i]->weight == plan->loads[0]->weight && plan->loads[i]->weight > 0;
    if (alike)
        return 0;
    plan->cumulative = calloc(plan->count, sizeof *plan->cumulative);
    if (!plan->cumulative)
        return -ENOMEM;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < plan->count; i++)
        plan->cumulative[i] = sum += plan->loads[i]->weight;
    return 0;
}

static struct plan *plan_new(uint32_t endpoint_count)
{
    struct plan *plan = calloc(1, sizeof *plan + endpoint_count * sizeof plan->loads[0]);
    if (plan)
        plan->refs = 1;
    return plan;
}

static struct plan *plan_make(struct engine *e, const struct engine_plan *from, struct plan *old)
{
    struct plan *plan = plan_new(from->endpoint_count);
    if (!plan)
        return NULL;
    memcpy(plan->address.ip, from->address, 16);
    plan->address.port = from->port;
    plan->service = from->service;
    plan->protocol = from->protocol;
    plan->balancer = from->balancer;
    if (old)
        memcpy(plan->learned, old->learned, sizeof plan->learned);
    for (uint32_t hint = 0; plan->count < from->endpoint_count; plan->count++) {
        const struct engine_endpoint *endpoint = &from->endpoints[plan->count];
        struct target *target = inherited(old, endpoint, &hint);
        if (!target && !(target = target_new(e, endpoint)))
            break;
        plan->loads[plan->count] = &target->load;
    }
    bool fine = !is_said(from->host) || (plan->host = name_get(e, from->host));
    if (fine && plan->count == from->endpoint_count && add_weights(plan) == 0)
        return plan;
    plan_unref(e, plan);
    return NULL;
}

struct plan *plan_through(struct engine *e, const struct endpoint_address *to, int32_t slot)
{
    struct engine_endpoint endpoint = {.port = to->port, .slot = slot, .weight = 1};
    memcpy(endpoint.address, to->ip, 16);
    struct engine_plan plan = {.port = to->port, .protocol = ENGINE_DETECT, .endpoint_count = 1, .endpoints = &endpoint};
    memcpy(plan.address, to->ip, 16);
    struct plan *made = plan_make(e, &plan, NULL);
    if (made)
        made->through = true;
    return made;
}

/* Its place in the table is another's now: what no plan of this address names any more is not kept for later. */
static void plan_retire(struct engine *e, struct plan *old, const struct plan *heir)
{
    for (uint32_t i = 0; i < old->count; i++)
        target_of(old->loads[i])->gone = true;
    for (uint32_t i = 0; heir && i < heir->count; i++)
        target_of(heir->loads[i])->gone = false;
    plan_unref(e, old);
    pool_drop_gone(e);
}

static bool is_for(const struct plan *plan, const struct endpoint_address *asked)
{
    return (plan->address.port == 0 || plan->address.port == asked->port) &&
           memcmp(plan->address.ip, asked->ip, sizeof asked->ip) == 0;
}

/* Parked connections that the new plan is for; none can join meanwhile. */
static void wake_parked(struct engine *e, struct plan *plan)
{
    struct list all, *link;
    list_move(&e->sessions.parked, &all);
    while ((link = list_shift(&all))) {
        struct session *s = container_of(link, struct session, queued);
        if (is_for(plan, &s->asked))
            session_use(e, s, plan);
        else
            list_push(&e->sessions.parked, &s->queued);
    }
}

int engine_set_plan(engine *e, const struct engine_plan *from)
{
    struct plans *plans = &e->plans;
    if (from->protocol > ENGINE_OPAQUE || from->balancer > ENGINE_ROUND_ROBIN)
        return -EINVAL;
    if (plans->count >= plans->size && grow(plans) < 0)
        return -ENOMEM;
    engine_begin(e);
    struct endpoint_address address = {.port = from->port};
    memcpy(address.ip, from->address, 16);
    struct plan **place = place_of(plans, &address), *old = *place;
    struct plan *plan = plan_make(e, from, old);
    if (!plan)
        return -ENOMEM;
    plan->next = old ? old->next : NULL;
    *place = plan;
    if (old)
        plan_retire(e, old, plan);
    else
        plans->count++;
    e->plans_version++;
    e->counters[COUNTER_plans] = plans->count;
    wake_parked(e, plan);
    engine_finish(e);
    return 0;
}

void engine_remove_plan(engine *e, const uint8_t address[16], uint16_t port)
{
    struct endpoint_address key = {.port = port};
    memcpy(key.ip, address, 16);
    struct plan **place = e->plans.size ? place_of(&e->plans, &key) : NULL;
    struct plan *plan = place ? *place : NULL;
    if (!plan)
        return;
    engine_begin(e);
    e->plans_version++;
    *place = plan->next;
    plan_retire(e, plan, NULL);
    e->counters[COUNTER_plans] = --e->plans.count;
    engine_finish(e);
}

struct target *plan_pick(struct engine *e, struct plan *plan, struct load *const *tried, uint32_t tried_count)
{
    struct choice choice = {plan->loads, plan->cumulative, tried, plan->count, tried_count};
    double decay_ns = e->config.decay_ms * (double)NS_PER_MS;
    int index = plan->balancer == ENGINE_ROUND_ROBIN ? balance_round_robin(&choice, &plan->cursor)
                                                     : balance_p2c(&choice, e->now, decay_ns, &e->random);
    if (index < 0)
        return NULL;
    struct target *target = target_of(plan->loads[index]);
    target->refs++;
    return target;
}

enum speaker plan_speaker(const struct plan *plan, uint16_t port)
{
    for (int i = 0; i < PORTS_LEARNED; i++)
        if (plan->learned[i].port == port)
            return plan->learned[i].speaker;
    return SPEAKER_UNKNOWN;
}

void plan_learn(struct plan *plan, uint16_t port, enum speaker speaker)
{
    int place = port % PORTS_LEARNED; /* a ninth port takes the place of another: it is a hint, not a fact */
    for (int i = 0; i < PORTS_LEARNED; i++) {
        int at = (port + i) % PORTS_LEARNED;
        if (plan->learned[at].port == port || plan->learned[at].port == 0) {
            place = at;
            break;
        }
    }
    plan->learned[place] = (struct learned){port, (uint8_t)speaker};
}

void plans_free(struct engine *e)
{
    for (uint32_t i = 0; i < e->plans.size; i++)
        while (e->plans.buckets[i]) {
            struct plan *plan = e->plans.buckets[i];
            e->plans.buckets[i] = plan->next;
            plan_unref(e, plan);
        }
    free(e->plans.buckets);
}
