/* The other workers of the node: all accept from the same queues, and nobody assigns connections to anybody. So that one
 * does not take nearly all (the first to wake is the first to take), who carries clearly more than a living neighbour
 * waits a moment before accepting. Bias: work is never refused, only taken 0.1 ms later. */
#include "core.h"

#define WORKERS_MAX 32 /* mesh.config; cells of the heartbeat map: one for all, a beat and a load for each worker */
#define EQUAL_ENOUGH 8 /* short connections come and go by handfuls: yielding for those costs them milliseconds (seen: -60 %) */
#define ALIVE_NS (1000 * NS_PER_MS)

static uint64_t cell(const struct engine *e, uint32_t number)
{
    return __atomic_load_n(&e->heartbeat[number], __ATOMIC_RELAXED);
}

void neighbours_tell(struct engine *e)
{
    if (!e->heartbeat)
        return;
    uint64_t load = e->draining ? UINT64_MAX / 4 : e->counters[COUNTER_connections]; /* who drains takes nobody's place */
    __atomic_store_n(&e->heartbeat[1 + WORKERS_MAX + e->worker], load, __ATOMIC_RELAXED);
}

bool neighbours_idler(const struct engine *e)
{
    uint64_t own = e->counters[COUNTER_connections];
    if (!e->heartbeat || own <= EQUAL_ENOUGH)
        return false;
    for (uint32_t worker = 0; worker < WORKERS_MAX; worker++) {
        uint64_t beat = worker == e->worker ? 0 : cell(e, 1 + worker);
        if (!beat || e->now - beat > ALIVE_NS)
            continue;
        uint64_t load = cell(e, 1 + WORKERS_MAX + worker);
        if (own > EQUAL_ENOUGH + 2 * load)
            return true;
    }
    return false;
}
