/* A pod's policies: kept as they are told, and what a change of them ends. Who is admitted is asked in admit.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "policies.h"

/* ---- what is said about a pod ---- */

struct array {
    const void *from;
    size_t size, count;
};

static const void *copied(uint8_t **at, struct array array)
{
    size_t bytes = array.size * array.count;
    uint8_t *to = *at;
    if (bytes)
        memcpy(to, array.from, bytes);
    *at += (bytes + 7) & ~(size_t)7;
    return to;
}

static size_t room_for(const struct authz *from)
{
    size_t bytes = from->policy_count * (sizeof(struct authz_policy) + sizeof(struct policy_counts *)) +
                   from->rule_count * sizeof(struct authz_rule) + from->source_count * sizeof(struct authz_source) +
                   from->operation_count * sizeof(struct authz_operation) +
                   from->text_count * sizeof(struct authz_text) + from->block_count * sizeof(struct authz_block) +
                   from->port_count * sizeof(uint16_t) + from->byte_count;
    return bytes + 9 * 8; /* each begins at a multiple of eight */
}

static struct policies *policies_new(struct engine *e, const struct authz *from)
{
    struct policies *p = calloc(1, sizeof *p + room_for(from));
    if (!p)
        return NULL;
    uint8_t *at = (uint8_t *)p->memory;
    p->authz = *from;
    p->authz.policies = copied(&at, (struct array){from->policies, sizeof *from->policies, from->policy_count});
    p->authz.rules = copied(&at, (struct array){from->rules, sizeof *from->rules, from->rule_count});
    p->authz.sources = copied(&at, (struct array){from->sources, sizeof *from->sources, from->source_count});
    p->authz.operations = copied(&at, (struct array){from->operations, sizeof *from->operations, from->operation_count});
    p->authz.texts = copied(&at, (struct array){from->texts, sizeof *from->texts, from->text_count});
    p->authz.blocks = copied(&at, (struct array){from->blocks, sizeof *from->blocks, from->block_count});
    p->authz.ports = copied(&at, (struct array){from->ports, sizeof *from->ports, from->port_count});
    p->authz.bytes = copied(&at, (struct array){from->bytes, 1, from->byte_count});
    p->counts = (struct policy_counts **)at;
    for (uint32_t i = 0; i < from->policy_count; i++) {
        p->counts[i] = rulings_use(e, from->policies[i].id);
        p->has_trials |= from->policies[i].dry_run;
    }
    p->needs_http = authz_needs_http(from);
    p->needs_paths = authz_needs_paths(from);
    p->needs_hosts = authz_needs_hosts(from);
    return p;
}

/* ---- policies change ---- */

/* Has a server, or nearly. A request whose head is read yet is asked when it is; what is known of one that runs is only
 * that it passed, and it is ended by what denies it for sure. */
static bool is_under_way(const struct session *s)
{
    bool relaying = s->exchange && s->exchange->stage == STAGE_RELAY; /* it may go on for hours */
    return s->state == SESSION_OPEN || (s->state == SESSION_DIALLING && !s->exchange) || relaying;
}

static void end_denied(struct engine *e, const struct policies *p)
{
    struct list *next;
    for (struct list *at = e->sessions.all.next; at != &e->sessions.all; at = next) {
        struct session *s = container_of(at, struct session, all);
        next = at->next;
        if (!is_under_way(s) || !s->dial.target || policies_at(e, s) != p)
            continue;
        struct authz_facts facts = facts_of(s, s->spoken == SPOKEN_HTTP1 ? AUTHZ_PASSED : AUTHZ_TCP);
        struct authz_ruling ruling = authz_check(&p->authz, &facts, 0);
        if (ruling.allowed)
            continue;
        COUNT(e, policy_ended);
        rulings_note(e, s, p, &facts, ruling, VERDICT_DENIED);
        session_end(e, s, FLAG_UAEX, true, true);
    }
}

int engine_set_policies(engine *e, uint32_t slot, const struct authz *from)
{
    struct pod *pod = pod_find(e, slot);
    if (!pod)
        return -ENOENT;
    if (from && !authz_valid(from))
        return -EINVAL;
    if (!rulings_begin(e))
        return -ENOMEM;
    struct policies *made = from ? policies_new(e, from) : NULL;
    if (from && !made)
        return -ENOMEM;
    policies_free(e, pod);
    pod->policies = made;
    if (!made)
        return 0;
    engine_begin(e);
    end_denied(e, made);
    engine_finish(e);
    return 0;
}

void policies_free(struct engine *e, struct pod *pod)
{
    struct policies *p = pod->policies;
    for (uint32_t i = 0; p && i < p->authz.policy_count; i++)
        rulings_leave(e, p->counts[i]);
    free(p);
    pod->policies = NULL;
}
