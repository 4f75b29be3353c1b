#include "balance.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#define DRAWS_MAX 8 /* before a draw among mostly tried endpoints becomes a scan */

uint64_t balance_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}

void balance_start(struct load *load, double rtt_ns, uint64_t now_ns)
{
    load->rtt_ns = rtt_ns;
    load->stamp_ns = now_ns;
}

static double decayed(const struct load *load, uint64_t now_ns, double decay_ns, double towards)
{
    double elapsed = now_ns > load->stamp_ns ? (double)(now_ns - load->stamp_ns) : 0.0;
    double keep = exp(-elapsed / decay_ns);
    return load->rtt_ns * keep + towards * (1.0 - keep);
}

void balance_observe(struct load *load, double rtt_ns, uint64_t now_ns, double decay_ns)
{
    double estimate = decayed(load, now_ns, decay_ns, rtt_ns);
    load->rtt_ns = rtt_ns > estimate ? rtt_ns : estimate;
    load->stamp_ns = now_ns;
}

double balance_cost(const struct load *load, uint64_t now_ns, double decay_ns)
{
    return decayed(load, now_ns, decay_ns, 0.0) * ((double)load->pending + 1.0);
}

static bool usable(const struct choice *c, uint32_t index)
{
    if (c->loads[index]->weight == 0)
        return false;
    for (uint32_t i = 0; i < c->tried_count; i++)
        if (c->tried[i] == c->loads[index])
            return false;
    return true;
}

/* The top 32 bits scaled to 0..bound-1: the generator's low bits are its weak ones. */
static uint32_t below(uint64_t *random, uint32_t bound)
{
    return (uint32_t)(((balance_random(random) >> 32) * bound) >> 32);
}

static uint32_t draw(const struct choice *c, uint64_t *random)
{
    if (!c->cumulative)
        return below(random, c->count);
    uint64_t point = balance_random(random) % c->cumulative[c->count - 1];
    uint32_t low = 0, high = c->count - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (c->cumulative[middle] > point)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static int draw_usable(const struct choice *c, uint64_t *random)
{
    uint32_t index = 0;
    for (int i = 0; i < DRAWS_MAX; i++) {
        index = draw(c, random);
        if (usable(c, index))
            return (int)index;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        uint32_t next = (index + i) % c->count;
        if (usable(c, next))
            return (int)next;
    }
    return -1;
}

static int draw_other(const struct choice *c, int first, uint64_t *random)
{
    if (c->cumulative)
        return draw_usable(c, random);
    uint32_t index = below(random, c->count - 1);
    if (index >= (uint32_t)first)
        index++;
    return usable(c, index) ? (int)index : draw_usable(c, random);
}

int balance_p2c(const struct choice *c, uint64_t now_ns, double decay_ns, uint64_t *random)
{
    if (c->count == 0 || (c->cumulative && c->cumulative[c->count - 1] == 0))
        return -1;
    int first = c->count == 1 ? (usable(c, 0) ? 0 : -1) : draw_usable(c, random);
    if (first < 0 || c->count == 1)
        return first;
    int second = draw_other(c, first, random);
    double one = balance_cost(c->loads[first], now_ns, decay_ns);
    double two = balance_cost(c->loads[second], now_ns, decay_ns);
    return two < one ? second : first;
}

/* Smooth weighted round robin (nginx's): everyone earns its weight, the richest pays the total. */
static int weighted_turn(const struct choice *c)
{
    int best = -1;
    int64_t total = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (!usable(c, i))
            continue;
        struct load *load = c->loads[i];
        load->credit += load->weight;
        total += load->weight;
        if (best < 0 || load->credit > c->loads[best]->credit)
            best = (int)i;
    }
    if (best >= 0)
        c->loads[best]->credit -= total;
    return best;
}

int balance_round_robin(const struct choice *c, uint32_t *cursor)
{
    if (c->cumulative)
        return weighted_turn(c);
    for (uint32_t i = 0; i < c->count; i++) {
        uint32_t index = (*cursor)++ % c->count;
        if (usable(c, index))
            return (int)index;
    }
    return -1;
}
