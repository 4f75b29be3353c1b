/* Whether a pod's policies admit a connection or a request to it, asked where its endpoint has been chosen: the one place
 * that inbound connections and those between two pods of the node both pass. authz.c judges; here its facts are put
 * together, what it says is counted and told, and who may not stay is ended.
 *
 * A request is judged by the normal form of its path, and where rules look at paths this form is what is forwarded: the
 * server never sees another spelling than the one that was judged. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exchange.h"
#include "normal.h"

#define TOLD_MAX 64 /* until Python takes them */
#define TOLD_EVERY_NS 1000000000ull

struct policies { /* of one pod */
    struct authz authz;           /* its arrays are in `memory` */
    struct policy_counts **counts; /* of each policy; NULL: there was no room */
    bool needs_http, needs_paths, needs_hosts, has_trials;
    uint64_t memory[];
};

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

/* Which of the counts these are, in the file and here. */
static size_t number_of(const struct engine *e, const struct policy_counts *counts)
{
    return (size_t)(counts - stats_policy(e->stats, 0, NULL));
}

static struct policy_counts *counts_for(struct engine *e, uint64_t id)
{
    struct policy_counts *counts = stats_policy(e->stats, id, e->rulings->uses);
    if (counts && e->rulings->uses[number_of(e, counts)]++ == 0)
        memset(e->rulings->paces[number_of(e, counts)], 0, sizeof e->rulings->paces[0]);
    return counts;
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
        p->counts[i] = counts_for(e, from->policies[i].id);
        p->has_trials |= from->policies[i].dry_run;
    }
    p->needs_http = authz_needs_http(from);
    p->needs_paths = authz_needs_paths(from);
    p->needs_hosts = authz_needs_hosts(from);
    return p;
}

/* ---- telling ---- */

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
static void note(struct engine *e, const struct session *s, const struct policies *p, const struct authz_facts *facts,
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
    note(e, s, p, facts, trial, trial.allowed ? VERDICT_WOULD_ALLOW : VERDICT_WOULD_DENY);
}

static void note_all(struct engine *e, const struct session *s, const struct policies *p,
                     const struct authz_facts *facts, struct authz_ruling ruling)
{
    if (!ruling.allowed || ruling.policy >= 0)
        note(e, s, p, facts, ruling, ruling.allowed ? VERDICT_ALLOWED : VERDICT_DENIED);
    if (p->has_trials)
        note_trial(e, s, p, facts, ruling.allowed);
    for (uint32_t i = p->authz.policy_count; i-- > 0 && p->authz.policies[i].action == AUTHZ_AUDIT;) {
        struct authz_ruling audit = {.policy = (int32_t)i, .rule = authz_match(&p->authz, i, facts)};
        if (audit.rule >= 0)
            note(e, s, p, facts, audit, VERDICT_AUDITED);
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

/* ---- facts ---- */

static struct authz_facts facts_of(const struct session *s, uint8_t known)
{
    const struct target *target = s->dial.target;
    struct authz_facts facts = {.identity = s->identity ? s->identity->text : NULL, .known = known,
                                .port = target->address.port ? target->address.port : s->asked.port};
    memcpy(facts.client, s->peer.ip, sizeof facts.client);
    return facts;
}

static struct authz_span span(const uint8_t *begin, struct http1_slice slice)
{
    return (struct authz_span){begin + slice.at, slice.length};
}

/* Puts the normal form of the path into the head, which ends where it did and begins later. Answers by how much; -1: there
 * is none. */
static int rewrite_path(struct engine *e, struct session *s, struct http1_slice *path)
{
    struct exchange *x = s->exchange;
    struct block *block = s->client.rx;
    uint8_t *begin = block->bytes + block->start;
    size_t length = normal_path(begin + path->at, path->length);
    if (length == 0)
        return -1;
    uint32_t gone = path->length - (uint32_t)length;
    if (gone) {
        COUNT(e, path_rewritten);
        memmove(begin + gone, begin, path->at + length);
        block->start += gone;
        x->request.at += gone;
        x->request.head_left -= gone;
        x->head_bytes -= (uint16_t)gone;
    }
    path->length = (uint16_t)length;
    return (int)gone;
}

/* What the rules look at in the head, which is whole and edited: it is read again, for most requests nobody asks.
 * false: it could be read in two ways. */
static bool look(struct engine *e, struct session *s, const struct policies *p, struct authz_facts *facts)
{
    static const uint8_t root[] = "/";
    struct http1_head *head = &e->head;
    const struct block *block = s->client.rx;
    http1_start(head);
    if (http1_request(head, block->bytes + block->start, s->exchange->head_bytes) != s->exchange->head_bytes)
        return false; /* it was read before */
    bool has_path = head->path.length && block->bytes[block->start + head->path.at] == '/';
    int gone = p->needs_paths && has_path ? rewrite_path(e, s, &head->path) : 0;
    if (gone < 0)
        return false;
    if (head->host.at > head->path.at)
        head->host.at -= (uint16_t)gone;
    const uint8_t *begin = block->bytes + block->start;
    facts->method = span(begin, head->verb);
    facts->host = span(begin, head->host);
    facts->path = span(begin, head->path);
    if (!head->path.length && head->method != HTTP1_CONNECT)
        facts->path = (struct authz_span){root, 1};
    if (!p->needs_hosts)
        return true;
    ptrdiff_t host = normal_host(facts->host.at, facts->host.length);
    facts->host.length = host < 0 ? 0 : (size_t)host;
    return host >= 0;
}

/* ---- admission ---- */

/* Of the pod that a session is about to reach. One that is reached by tunnel judges at the tunnel's other end. */
static const struct policies *policies_at(const struct engine *e, const struct session *s)
{
    const struct target *target = s->dial.target;
    bool elsewhere = target->slot < 0 || goes_by_tunnel(s, target);
    const struct pod *pod = elsewhere ? NULL : pod_find(e, (uint32_t)target->slot);
    return pod ? pod->policies : NULL;
}

static enum admission judge_request(struct engine *e, struct session *s, const struct policies *p)
{
    struct authz_facts facts = facts_of(s, AUTHZ_HTTP);
    if (p->needs_http && !look(e, s, p, &facts)) {
        COUNT(e, path_ambiguous);
        return ADMIT_UNCLEAR;
    }
    struct authz_ruling ruling = authz_check(&p->authz, &facts, 0);
    if (!ruling.allowed && !p->needs_http)
        look(e, s, p, &facts); /* people want to know what it was */
    note_all(e, s, p, &facts, ruling);
    return ruling.allowed ? ADMIT_YES : ADMIT_DENIED;
}

/* Who comes by tunnel speaks when it is open, and it is not opened for whom no request could save. Others are told by
 * HTTP, if that is what they speak. */
static bool is_hopeless(const struct session *s, const struct policies *p, struct authz_facts facts)
{
    facts.known = AUTHZ_PASSED;
    return s->tunnelled && !authz_check(&p->authz, &facts, 0).allowed;
}

enum admission policies_admit(struct engine *e, struct session *s)
{
    const struct policies *p = policies_at(e, s);
    if (!p)
        return ADMIT_YES;
    if (s->exchange)
        return s->exchange->stage == STAGE_HEAD ? ADMIT_YES : judge_request(e, s, p); /* asked again when its head is there */
    struct authz_facts facts = facts_of(s, AUTHZ_TCP);
    struct authz_ruling ruling = authz_check(&p->authz, &facts, 0);
    if (ruling.allowed)
        return ADMIT_YES; /* and counted when it turns out not to be HTTP */
    if (!s->decided && !s->client.ended && !s->waited && !is_hopeless(s, p, facts))
        return ADMIT_LATER;
    note_all(e, s, p, &facts, ruling);
    return ADMIT_DENIED;
}

void policies_opened(struct engine *e, const struct session *s)
{
    const struct policies *p = s->dial.target ? policies_at(e, s) : NULL;
    if (!p)
        return;
    struct authz_facts facts = facts_of(s, AUTHZ_TCP);
    note_all(e, s, p, &facts, authz_check(&p->authz, &facts, 0));
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
        note(e, s, p, &facts, ruling, VERDICT_DENIED);
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
    if (!e->rulings && !(e->rulings = calloc(1, sizeof *e->rulings)))
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
        if (p->counts[i])
            e->rulings->uses[number_of(e, p->counts[i])]--;
    free(p);
    pod->policies = NULL;
}

void rulings_free(struct engine *e)
{
    free(e->rulings);
}
