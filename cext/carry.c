/* Connections that another process carries to and from other nodes, by a way of its own (QUIC): asked for by an event, and
 * handed over as connected sockets. Identities are proven there as HBONE proves them; policy and accounts are here. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "credential.h"
#include "hbone.h"

void carry_ask(struct engine *e, struct session *s)
{
    s->dial.job = ++e->carrier_jobs;
    COUNT(e, carry_asked);
    struct engine_event event = {.kind = ENGINE_NEED_CARRIER, .connection = s->id, .slot = s->slot, .missing = s->dial.job};
    event_push(e, &event);
}

static struct session *asking(const struct engine *e, uint64_t connection, uint32_t job)
{
    struct session *s = session_find(e, connection);
    return s && s->dial.state == DIAL_ASKING && s->dial.job == job ? s : NULL;
}

int engine_to_carry(const engine *e, uint64_t connection, uint32_t job, struct engine_opening *to)
{
    const struct session *s = asking(e, connection, job);
    const struct pod *pod = s ? pod_find(e, s->slot) : NULL;
    if (!pod || !pod->identity)
        return 0;
    const struct target *target = s->dial.target;
    *to = (struct engine_opening){.source = pod->identity->text, .target = target->peer->text, .node = target->node->text,
                                  .client_port = s->peer.port};
    to->destination_port = target->address.port ? target->address.port : s->asked.port;
    memcpy(to->destination, target->address.ip, sizeof to->destination);
    memcpy(to->client, s->peer.ip, sizeof to->client);
    return 1;
}

void engine_carried(engine *e, uint64_t connection, uint32_t job, int fd, uint16_t status)
{
    struct session *s = asking(e, connection, job);
    bool unwanted = fd >= 0 && (!s || status != 200);
    if (unwanted)
        turn_away(fd);
    if (!s)
        return;
    engine_begin(e);
    dial_carried(e, s, unwanted ? -1 : fd, status);
    engine_finish(e);
}

/* Whose connection it is: as the other node says, if the identity that it has proven is the one of that address. */
static struct endpoint_address client_of(const struct engine *e, const struct engine_arrival *from, const struct name *who)
{
    struct endpoint_address client = {.port = from->client_port};
    bool is_theirs = who == source_identity(e, from->client);
    memcpy(client.ip, is_theirs ? from->client : from->node, sizeof client.ip);
    return client;
}

/* What an HBONE tunnel's accept, handshake and request are refused for is asked here, by what is known now: the carrier
 * may have been told later than we were. 0: it may come in. */
static uint16_t refusal_of(struct engine *e, const struct pod *pod, const struct engine_arrival *from, const struct name *who)
{
    const struct name *there = source_identity(e, from->client);
    if (pod->mtls == ENGINE_MTLS_DISABLED || !credential_find(e, pod->identity)) {
        COUNT(e, tunnel_no_identity);
        return 503;
    }
    if (trust_denies(e, who->text)) {
        COUNT(e, tunnel_denied);
        return 401;
    }
    if (there && there != who) {
        COUNT(e, hbone_address_mismatch);
        return 401;
    }
    return strcmp(pod->identity->text, from->target) == 0 ? 0 : 503;
}

static void refuse(struct engine *e, int fd, const struct engine_arrival *from, uint16_t status)
{
    COUNT(e, hbone_refused);
    turn_away(fd);
    event_push(e, &(struct engine_event){.kind = ENGINE_ARRIVED, .connection = from->job, .slot = from->slot, .reason = status});
}

int engine_arrive(engine *e, int fd, const struct engine_arrival *from)
{
    const struct pod *pod = pod_find(e, from->slot);
    struct name *who = pod ? name_get(e, from->identity) : NULL;
    if (!who) {
        turn_away(fd);
        return pod ? -ENOMEM : -ENOENT;
    }
    engine_begin(e);
    COUNT(e, carry_arrived);
    struct endpoint_address client = client_of(e, from, who);
    uint16_t refusal = refusal_of(e, pod, from, who);
    int result = 0;
    if (refusal)
        refuse(e, fd, from, refusal);
    else
        result = session_start_arrival(e, fd, from, &client, who);
    name_unref(e, who);
    engine_finish(e);
    return result;
}

void carry_judge(struct engine *e)
{
    struct list *next;
    for (struct list *at = e->sessions.all.next; at != &e->sessions.all; at = next) {
        struct session *s = container_of(at, struct session, all);
        next = at->next;
        if (!s->tunnelled || s->client.watch.fd < 0 || !trust_denies(e, s->identity->text))
            continue;
        COUNT(e, tunnel_denied);
        hbone_refusal(s, 401);
        session_end(e, s, FLAG_LR, true, true);
    }
}

void carry_answer(struct engine *e, struct session *s, uint16_t status)
{
    struct engine_event event = {.kind = ENGINE_ARRIVED, .connection = s->arrival, .slot = s->slot, .reason = status};
    s->arrival = 0;
    event_push(e, &event);
}
