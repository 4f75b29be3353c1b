/* A wheel of timers in two levels: 1024 slots of 4 ms, 1024 of 4.3 s; later ones go round. Never early, at most a
 * slot late. Adding and removing are a few stores. Time is an argument. */
#ifndef SEINE_TIMER_H
#define SEINE_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#include "list.h"

#define WHEEL_TICK_BITS 22
#define WHEEL_SLOT_BITS 10
#define WHEEL_SLOTS (1u << WHEEL_SLOT_BITS)

struct timer {
    struct list link; /* of its slot; empty while not running */
    uint64_t due_ns;
    void (*fire)(void *owner, struct timer *);
};

struct wheel {
    uint64_t tick; /* everything up to here has fired */
    struct list near[WHEEL_SLOTS];
    struct list far[WHEEL_SLOTS];
    uint64_t busy[WHEEL_SLOTS / 64]; /* bit per near slot that may hold something */
};

void wheel_init(struct wheel *, uint64_t now_ns);

/* Starts or restarts; `fire` runs in wheel_advance, once, the timer being stopped before. */
void timer_start(struct wheel *, struct timer *, uint64_t due_ns);
void timer_init(struct timer *, void (*fire)(void *owner, struct timer *));
void timer_stop(struct timer *);
bool timer_running(const struct timer *);

void wheel_advance(struct wheel *, uint64_t now_ns, void *owner);

/* When to call wheel_advance next; at most one round of the near level away. */
uint64_t wheel_next_ns(const struct wheel *);

#endif
