/* Connections that another process carries to and from other nodes, by a way of its own (QUIC): asked for by an event, and
 * handed over as connected sockets. Identities are proven there as HBONE proves them; policy and accounts are here. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core.h"

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
    if (!s) {
        if (fd >= 0)
            turn_away(fd);
        return;
    }
    engine_begin(e);
    dial_carried(e, s, fd, status);
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

int engine_arrive(engine *e, int fd, const struct engine_arrival *from)
{
    struct name *who = pod_find(e, from->slot) ? name_get(e, from->identity) : NULL;
    if (!who) {
        turn_away(fd);
        return pod_find(e, from->slot) ? -ENOMEM : -ENOENT;
    }
    engine_begin(e);
    COUNT(e, carry_arrived);
    struct endpoint_address client = client_of(e, from, who);
    int result = session_start_arrival(e, fd, from, &client, who);
    name_unref(e, who);
    engine_finish(e);
    return result;
}

void carry_answer(struct engine *e, struct session *s, uint16_t status)
{
    struct engine_event event = {.kind = ENGINE_ARRIVED, .connection = s->arrival, .slot = s->slot, .reason = status};
    s->arrival = 0;
    event_push(e, &event);
}
