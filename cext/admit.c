/* Whether a connection or a request to a pod is admitted: no identity is denied (denial.c), and the pod's policies let it
 * in. Asked where its endpoint has been chosen: the one place that inbound connections and those between two pods of the
 * node both pass. authz.c judges; here its facts are put together, and what it says is counted and told.
 *
 * A request is judged by the normal form of its path, and where rules look at paths this form is what is forwarded: the
 * server never sees another spelling than the one that was judged. */
#include <string.h>

#include "normal.h"
#include "policies.h"

/* ---- facts ---- */

struct authz_facts facts_of(const struct session *s, uint8_t known)
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
const struct policies *policies_at(const struct engine *e, const struct session *s)
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
    rulings_note_all(e, s, p, &facts, ruling);
    return ruling.allowed ? ADMIT_YES : ADMIT_DENIED;
}

/* Who comes by tunnel speaks when it is open, and it is not opened for whom no request could save. Others are told by
 * HTTP, if that is what they speak. */
static bool is_hopeless(const struct session *s, const struct policies *p, struct authz_facts facts)
{
    facts.known = AUTHZ_PASSED;
    return s->tunnelled && !authz_check(&p->authz, &facts, 0).allowed;
}

static bool may_speak_yet(const struct session *s)
{
    return !s->exchange && !s->decided && !s->client.ended && !s->waited;
}

/* Before any policy: an ALLOW that names a denied identity does not let it in. */
static enum admission bar(struct engine *e, struct session *s)
{
    if (may_speak_yet(s))
        return ADMIT_LATER;
    COUNT(e, identity_denied);
    s->dial.barred = true;
    return ADMIT_DENIED;
}

enum admission policies_admit(struct engine *e, struct session *s)
{
    s->dial.barred = false;
    if (s->exchange && s->exchange->stage == STAGE_HEAD)
        return ADMIT_YES; /* asked again when its head is there */
    if (identity_is_denied(e, s))
        return bar(e, s);
    const struct policies *p = policies_at(e, s);
    if (!p)
        return ADMIT_YES;
    if (s->exchange)
        return judge_request(e, s, p);
    struct authz_facts facts = facts_of(s, AUTHZ_TCP);
    struct authz_ruling ruling = authz_check(&p->authz, &facts, 0);
    if (ruling.allowed)
        return ADMIT_YES; /* and counted when it turns out not to be HTTP */
    if (may_speak_yet(s) && !is_hopeless(s, p, facts))
        return ADMIT_LATER;
    rulings_note_all(e, s, p, &facts, ruling);
    return ADMIT_DENIED;
}

void policies_opened(struct engine *e, const struct session *s)
{
    const struct policies *p = s->dial.target ? policies_at(e, s) : NULL;
    if (!p)
        return;
    struct authz_facts facts = facts_of(s, AUTHZ_TCP);
    rulings_note_all(e, s, p, &facts, authz_check(&p->authz, &facts, 0));
}
