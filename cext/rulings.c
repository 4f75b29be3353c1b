/* What policies said, counted and told: at most once a second of each policy's verdict, with how many there were since. */
#include <stdlib.h>
#include <string.h>

#include "policies.h"

#define TOLD_MAX 64 /* until Python takes them */
#define TOLD_EVERY_NS 1000000000ull

struct pace { /* of one policy's verdict: when it was told, and how often not since then */
    uint64_t told_ns;
    uint32_t missed;
};

struct rulings {
    struct pace paces[STATS_POLICIES_MAX][VERDICT_COUNT];
    uint32_t uses[STATS_POLICIES_MAX]; /* by pods, of each policy's counts */
    uint32_t head, tail;
    struct engine_ruling told[TOLD_MAX];
};

bool rulings_begin(struct engine *e)
{
    return e->rulings || (e->rulings = calloc(1, sizeof *e->rulings));
}

/* Which of the counts these are, in the file and here. */
static size_t number_of(const struct engine *e, const struct policy_counts *counts)
{
    return (size_t)(counts - stats_policy(e->stats, 0, NULL));
}

struct policy_counts *rulings_use(struct engine *e, uint64_t id)
{
    struct policy_counts *counts = stats_policy(e->stats, id, e->rulings->uses);
    if (counts && e->rulings->uses[number_of(e, counts)]++ == 0)
        memset(e->rulings->paces[number_of(e, counts)], 0, sizeof e->rulings->paces[0]);
    return counts;
}

void rulings_leave(struct engine *e, const struct policy_counts *counts)
{
    if (counts)
        e->rulings->uses[number_of(e, counts)]--;
}

static void cut(char to[ENGINE_RULING_TEXT_MAX], const void *from, size_t length)
{
    if (length >= ENGINE_RULING_TEXT_MAX)
        length = ENGINE_RULING_TEXT_MAX - 1;
    if (length)
        memcpy(to, from, length);
    to[length] = '\0';
}

static void tell(struct engine *e, const struct session *s, const struct authz_facts *facts, struct engine_ruling ruling)
{
    struct rulings *all = e->rulings;
    if (all->tail - all->head >= TOLD_MAX) {
        COUNT(e, rulings_dropped);
        return;
    }
    struct engine_ruling *to = &all->told[all->tail++ % TOLD_MAX];
    *to = ruling;
    to->slot = (uint32_t)s->dial.target->slot;
    to->client_port = s->peer.port;
    to->port = facts->port;
    memcpy(to->client, facts->client, sizeof to->client);
    cut(to->identity, facts->identity, facts->identity ? strlen(facts->identity) : 0);
    cut(to->method, facts->method.at, facts->method.length);
    cut(to->host, facts->host.at, facts->host.length);
    cut(to->path, facts->path.at, facts->path.length);
    event_push(e, &(struct engine_event){.kind = ENGINE_RULINGS});
}

/* Counts it, and tells what deserves it if the last one like it was told long enough ago. `policy` -1: of none. */
void rulings_note(struct engine *e, const struct session *s, const struct policies *p, const struct authz_facts *facts,
                  struct authz_ruling ruling, enum verdict verdict)
{
    struct policy_counts *counts = ruling.policy >= 0 ? p->counts[ruling.policy] : stats_policy(e->stats, 0, NULL);
    if (!counts)
        return;
    counts->counts[verdict]++;
    if (verdict == VERDICT_ALLOWED)
        return;
    struct pace *pace = &e->rulings->paces[number_of(e, counts)][verdict];
    if (pace->told_ns && e->now - pace->told_ns < TOLD_EVERY_NS) {
        pace->missed++;
        return;
    }
    tell(e, s, facts, (struct engine_ruling){.policy = counts->policy, .rule = ruling.rule, .missed = pace->missed,
                                             .verdict = (uint8_t)verdict});
    *pace = (struct pace){.told_ns = e->now};
}

/* A dry run that would have changed the verdict. What no ALLOW policy would have matched is the first dry one's doing. */
static void note_trial(struct engine *e, const struct session *s, const struct policies *p,
                       const struct authz_facts *facts, bool allowed)
{
    struct authz_ruling trial = authz_check(&p->authz, facts, 1);
    if (trial.allowed == allowed)
        return;
    for (uint32_t i = 0; trial.policy < 0 && i < p->authz.policy_count; i++)
        if (p->authz.policies[i].dry_run && p->authz.policies[i].action == AUTHZ_ALLOW)
            trial.policy = (int32_t)i;
    rulings_note(e, s, p, facts, trial, trial.allowed ? VERDICT_WOULD_ALLOW : VERDICT_WOULD_DENY);
}

void rulings_note_all(struct engine *e, const struct session *s, const struct policies *p,
                      const struct authz_facts *facts, struct authz_ruling ruling)
{
    if (!ruling.allowed || ruling.policy >= 0)
        rulings_note(e, s, p, facts, ruling, ruling.allowed ? VERDICT_ALLOWED : VERDICT_DENIED);
    if (p->has_trials)
        note_trial(e, s, p, facts, ruling.allowed);
    for (uint32_t i = p->authz.policy_count; i-- > 0 && p->authz.policies[i].action == AUTHZ_AUDIT;) {
        struct authz_ruling audit = {.policy = (int32_t)i, .rule = authz_match(&p->authz, i, facts)};
        if (audit.rule >= 0)
            rulings_note(e, s, p, facts, audit, VERDICT_AUDITED);
    }
}

uint32_t engine_rulings(engine *e, struct engine_ruling *to, uint32_t capacity)
{
    struct rulings *all = e->rulings;
    uint32_t count = 0;
    while (all && count < capacity && all->head != all->tail)
        to[count++] = all->told[all->head++ % TOLD_MAX];
    return count;
}

void rulings_free(struct engine *e)
{
    free(e->rulings);
}
