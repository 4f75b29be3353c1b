#include "timer.h"

#include <string.h>

#define SLOT(tick) ((uint32_t)(tick) & (WHEEL_SLOTS - 1))

void wheel_init(struct wheel *w, uint64_t now_ns)
{
    memset(w, 0, sizeof *w);
    w->tick = now_ns >> WHEEL_TICK_BITS;
    for (uint32_t i = 0; i < WHEEL_SLOTS; i++) {
        list_init(&w->near[i]);
        list_init(&w->far[i]);
    }
}

void timer_init(struct timer *t, void (*fire)(void *owner, struct timer *))
{
    list_init(&t->link);
    t->due_ns = 0;
    t->fire = fire;
}

bool timer_running(const struct timer *t)
{
    return !list_empty(&t->link);
}

void timer_stop(struct timer *t)
{
    list_remove(&t->link);
}

static void place(struct wheel *w, struct timer *t)
{
    uint64_t tick = (t->due_ns + ((1ull << WHEEL_TICK_BITS) - 1)) >> WHEEL_TICK_BITS;
    if (tick <= w->tick)
        tick = w->tick + 1;
    if (tick - w->tick >= WHEEL_SLOTS) {
        list_push(&w->far[SLOT(tick >> WHEEL_SLOT_BITS)], &t->link);
        return;
    }
    list_push(&w->near[SLOT(tick)], &t->link);
    w->busy[SLOT(tick) / 64] |= 1ull << (SLOT(tick) % 64);
}

void timer_start(struct wheel *w, struct timer *t, uint64_t due_ns)
{
    list_remove(&t->link);
    t->due_ns = due_ns;
    place(w, t);
}

/* Runs while w->tick is still the tick before, so that what is due at this very tick lands in its near slot. */
static void cascade(struct wheel *w, uint64_t tick)
{
    struct list all, *link;
    list_move(&w->far[SLOT(tick >> WHEEL_SLOT_BITS)], &all);
    while ((link = list_shift(&all)))
        place(w, container_of(link, struct timer, link));
}

static void fire_slot(struct wheel *w, uint32_t slot, void *owner)
{
    struct list all, *link;
    w->busy[slot / 64] &= ~(1ull << (slot % 64));
    list_move(&w->near[slot], &all);
    while ((link = list_shift(&all))) {
        struct timer *t = container_of(link, struct timer, link);
        t->fire(owner, t);
    }
}

void wheel_advance(struct wheel *w, uint64_t now_ns, void *owner)
{
    for (uint64_t last = now_ns >> WHEEL_TICK_BITS; w->tick < last;) {
        uint64_t tick = w->tick + 1;
        if (SLOT(tick) == 0)
            cascade(w, tick);
        w->tick = tick;
        if (w->busy[SLOT(tick) / 64] & 1ull << (SLOT(tick) % 64))
            fire_slot(w, SLOT(tick), owner);
    }
}

uint64_t wheel_next_ns(const struct wheel *w)
{
    uint64_t tick = w->tick + 1;
    while (SLOT(tick) != 0 && !(w->busy[SLOT(tick) / 64] & 1ull << (SLOT(tick) % 64)))
        tick += w->busy[SLOT(tick) / 64] >> (SLOT(tick) % 64) ? 1 : 64 - SLOT(tick) % 64;
    return tick << WHEEL_TICK_BITS;
}
