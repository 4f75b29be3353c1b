/* Which endpoint: the arithmetic, with clock and random source as arguments. No memory, no I/O.
 *
 * Peak EWMA (Finagle's, Linkerd's): the estimate of an endpoint's round trip rises at once with a slower answer and
 * falls exponentially with `decay_ns`, towards zero when it is not used, so that a slow endpoint is tried again.
 * Cost = estimate * (pending + 1). Two endpoints are drawn, the cheaper one is taken.
 * Weights: with equal ones the two are distinct; else both are drawn in proportion to weight, with replacement, so that
 * shares follow weights where costs are alike. Weight 0 is never taken. */
#ifndef SEINE_BALANCE_H
#define SEINE_BALANCE_H

#include <stdint.h>

struct load {
    double rtt_ns;
    uint64_t stamp_ns; /* when rtt_ns was right */
    int64_t credit;    /* of the weighted round robin */
    uint32_t pending;
    uint32_t weight;
};

/* What a pick looks at. `cumulative`: running sums of the weights, NULL when all are equal and not 0.
 * `tried` (pointers among `loads`) are not taken again. */
struct choice {
    struct load *const *loads;
    const uint64_t *cumulative;
    struct load *const *tried;
    uint32_t count;
    uint32_t tried_count;
};

/* xorshift64*; the state must not be 0. */
uint64_t balance_random(uint64_t *state);

/* Sets the estimate of an endpoint never used. */
void balance_start(struct load *, double rtt_ns, uint64_t now_ns);

/* Takes note of one round trip. */
void balance_observe(struct load *, double rtt_ns, uint64_t now_ns, double decay_ns);

double balance_cost(const struct load *, uint64_t now_ns, double decay_ns);

/* Each answers an index into `loads`, or -1 when nothing can be taken. */
int balance_p2c(const struct choice *, uint64_t now_ns, double decay_ns, uint64_t *random);
int balance_round_robin(const struct choice *, uint32_t *cursor);

#endif
