/* The stock: unconnected sockets made in a pod's namespace by the agent, so that dialling needs nobody's help, and
 * what a worker lives on while the agent is away. Who finds it empty waits its turn, `stock_wait_ms` at most. */
#include <errno.h>
#include <unistd.h>

#include "core.h"

#define ASK_AGAIN_NS (1000 * NS_PER_MS)

void stock_init(struct engine *e, struct pod *pod)
{
    for (int family = 0; family < 2; family++) {
        struct stock *stock = &pod->stock[family];
        list_init(&stock->waiters);
        stock->target = e->config.stock_target;
    }
}

static void fail_waiters(struct engine *e, struct stock *stock)
{
    struct list all, *link;
    list_move(&stock->waiters, &all);
    while ((link = list_shift(&all)))
        dial_without_socket(e, container_of(link, struct dial, queued));
}

void stock_free(struct engine *e, struct pod *pod)
{
    for (int family = 0; family < 2; family++) {
        struct stock *stock = &pod->stock[family];
        fail_waiters(e, stock);
        while (stock->count) {
            close(stock->fds[--stock->count]);
            LESS(e, stock);
        }
    }
}

/* The mark grows with the target, so that a busy pod's orders stay large and what is left meanwhile does too. */
static uint32_t low_mark(const struct engine *e, const struct stock *stock)
{
    return (uint32_t)((uint64_t)e->config.stock_low * stock->target / (e->config.stock_target ? e->config.stock_target : 1));
}

void stock_check(struct engine *e, struct pod *pod, int family)
{
    struct stock *stock = &pod->stock[family];
    if (stock->count > low_mark(e, stock) || stock->count >= stock->target)
        return;
    if (stock->asked_ns && e->now - stock->asked_ns < ASK_AGAIN_NS)
        return;
    stock->asked_ns = e->now;
    COUNT(e, need_sockets);
    event_push(e, &(struct engine_event){.kind = ENGINE_NEED_SOCKETS, .slot = pod->slot, .family = family ? 6 : 4,
                                         .missing = stock->target - stock->count});
}

int stock_take(struct engine *e, struct pod *pod, int family)
{
    struct stock *stock = &pod->stock[family];
    int fd = -1;
    if (stock->count) {
        fd = stock->fds[--stock->count];
        LESS(e, stock);
    } else {
        stock->target = stock->target * 2 < STOCK_MAX ? stock->target * 2 : STOCK_MAX;
    }
    stock_check(e, pod, family);
    return fd;
}

static void put(struct engine *e, struct stock *stock, int fd)
{
    struct list *link = list_shift(&stock->waiters);
    if (link) {
        dial_with(e, container_of(link, struct dial, queued), fd);
    } else if (stock->count < STOCK_MAX) {
        stock->fds[stock->count++] = fd;
        COUNT(e, stock);
    } else {
        COUNT(e, stock_surplus);
        close(fd);
    }
}

int engine_add_sockets(engine *e, uint32_t slot, uint8_t family, const int *fds, uint32_t count)
{
    struct pod *pod = pod_find(e, slot);
    if (!pod || (family != 4 && family != 6)) {
        for (uint32_t i = 0; i < count; i++)
            close(fds[i]);
        return pod ? -EINVAL : -ENOENT;
    }
    struct stock *stock = &pod->stock[family == 6];
    engine_begin(e);
    for (uint32_t i = 0; i < count; i++)
        put(e, stock, fds[i]);
    if (count == 0) {
        COUNT(e, stock_refused);
        fail_waiters(e, stock);
    } else {
        stock->asked_ns = 0;
        stock_check(e, pod, family == 6);
    }
    engine_finish(e);
    return 0;
}

uint32_t engine_stock(const engine *e, uint32_t slot, uint8_t family)
{
    const struct pod *pod = pod_find(e, slot);
    return pod ? pod->stock[family == 6].count : 0;
}
