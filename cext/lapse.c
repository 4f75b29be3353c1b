/* Who is missed least. When blocks run out, who has waited longest for its peer to take or to finish something is ended;
 * when connections run out, the HTTP connection that has been idle for longest is closed. So that a few thousand clients
 * that read nothing, or never finish a head, cost their own connections and not everybody's. */
#include "core.h"

#define IDLE_LEAST_MS 1000 /* an active client is back sooner */

void leg_stuck(struct engine *e, struct leg *leg)
{
    if (!list_empty(&leg->lapse))
        return;
    leg->lapse_ns = e->now;
    list_push(&e->sessions.stuck, &leg->lapse);
}

void leg_idle(struct engine *e, struct leg *leg)
{
    list_remove(&leg->lapse);
    leg->lapse_ns = e->now;
    list_push(&e->sessions.idle, &leg->lapse);
}

static struct session *oldest(const struct engine *e, const struct list *among, uint32_t least_ms)
{
    if (list_empty(among))
        return NULL;
    const struct leg *leg = container_of(among->next, struct leg, lapse);
    return e->now - leg->lapse_ns >= least_ms * NS_PER_MS ? leg->session : NULL;
}

void sessions_shed(struct engine *e)
{
    struct session *s;
    if (!e->short_of_blocks)
        return;
    while (e->counters[COUNTER_buffers] >= e->config.max_buffers &&
           (s = oldest(e, &e->sessions.stuck, e->config.stuck_ms))) {
        COUNT(e, stuck_ended);
        session_end(e, s, FLAG_UO, true, true);
    }
    e->short_of_blocks = !list_empty(&e->sessions.starved);
}

bool session_reclaim(struct engine *e)
{
    struct session *s = oldest(e, &e->sessions.idle, IDLE_LEAST_MS);
    if (!s)
        return false;
    COUNT(e, idle_reclaimed);
    session_end(e, s, FLAG_NONE, false, false);
    return true;
}
