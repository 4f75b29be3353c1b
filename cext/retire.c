/* Series that nothing counts in any more are given to others. Every pod that ever was has some of its own, and without
 * this weeks of comings and goings would fill the array: then all that is new would share the overflow.
 *
 * Once the array is three quarters full, a series is retired that nothing has changed from one look to the next (ten
 * minutes) and that no connection holds. It is taken out of its key first, then emptied, and used again after the next
 * look at the earliest: whoever reads the file meanwhile sees it whole, emptied or not at all, never as another's. The
 * agent has added up what it counted, and forgets rows as old itself. */
#include <string.h>

#include "core.h"

#define FULL (STATS_SERIES_MAX / 4 * 3)

static uint64_t sum_of(const struct series *series)
{
    return series->count + series->opened + series->closed + series->request_bytes + series->response_bytes;
}

/* Those that a connection counts its bytes in: they may be quiet for hours. What `recent` names is looked up again. */
static void mark_held(struct engine *e, uint8_t *held)
{
    for (const struct list *at = e->sessions.all.next; at != &e->sessions.all; at = at->next) {
        const struct session *s = container_of(at, struct session, all);
        if (s->series)
            held[stats_number(e->stats, s->series)] = 1;
        if (s->carried)
            held[stats_number(e->stats, s->carried)] = 1;
    }
}

/* Bytes before counts: a reader that sees half of it takes it for nothing new. */
static void empty(struct series *series)
{
    series->key = (struct series_key){.protocol = SPOKEN_HOLE};
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memset(series->histogram, 0, sizeof series->histogram);
    series->sum_ns = series->request_bytes = series->response_bytes = 0;
    __atomic_thread_fence(__ATOMIC_RELEASE);
    series->opened = series->closed = series->count = 0;
}

static void look(struct engine *e)
{
    struct stats *stats = e->stats;
    uint8_t held[STATS_SERIES_MAX] = {0};
    uint32_t count = stats->file->series_count;
    mark_held(e, held);
    stats_spare(stats); /* of the looks before */
    for (uint32_t i = 1; i < count; i++) {
        struct series *series = &stats->series[i];
        uint64_t sum = sum_of(series);
        bool quiet = sum == stats->seen[i] && series->opened == series->closed && !held[i];
        if (quiet && series->key.protocol != SPOKEN_HOLE) {
            empty(series);
            COUNT(e, series_retired);
        }
        stats->seen[i] = sum;
    }
    stats_index(stats);
}

void retire_start(struct engine *e)
{
    timer_start(&e->wheel, &e->retire, ms_from_now(e, e->config.series_idle_ms));
}

static void on_timer(void *owner, struct timer *timer)
{
    struct engine *e = owner;
    (void)timer;
    if (e->stats->file->series_count >= FULL)
        look(e);
    retire_start(e);
}

void retire_init(struct engine *e)
{
    timer_init(&e->retire, on_timer);
}
