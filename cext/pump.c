/* The epoll, the clock, the queue of events for Python, and the engine as a whole. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "credential.h"
#include "signatures.h"
#include "tunnel.h"

#define HEARTBEAT_MAP_BYTES 4096
#define FLUSH_TURNS 2 /* what two turns made for a tunnel leaves at once; waiting for more would delay it */

uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* ---- descriptors in the epoll ---- */

int watch_set(struct engine *e, struct watch *watch, uint32_t wanted)
{
    if (watch->added ? watch->wanted == wanted : wanted == 0)
        return 0;
    struct epoll_event event = {.events = wanted, .data.ptr = watch};
    if (epoll_ctl(e->epoll, watch->added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, watch->fd, &event) < 0) {
        COUNT(e, epoll_failed);
        return -errno;
    }
    watch->added = true;
    watch->wanted = wanted;
    return 0;
}

void watch_mute(struct engine *e, struct watch *watch)
{
    if (!watch->added)
        return;
    epoll_ctl(e->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->added = false;
    watch->wanted = 0;
}

void watch_close(struct engine *e, struct watch *watch, bool shared)
{
    if (shared)
        watch_mute(e, watch);
    close(watch->fd);
    watch->fd = -1;
    watch->added = false;
}

/* ---- events for Python ---- */

void event_push(struct engine *e, const struct engine_event *event)
{
    if (e->events_tail - e->events_head == EVENTS_MAX) {
        COUNT(e, events_dropped);
        return;
    }
    e->events[e->events_tail++ % EVENTS_MAX] = *event;
}

void engine_poke(engine *e)
{
    uint64_t one = 1;
    if (!e->kicked && write(e->kick, &one, sizeof one) == sizeof one)
        e->kicked = true;
}

static void kick_ready(struct engine *e)
{
    uint64_t count;
    if (read(e->kick, &count, sizeof count) == sizeof count)
        e->kicked = false;
}

static int take_events(struct engine *e, struct engine_event *to, int capacity)
{
    int count = 0;
    while (count < capacity && e->events_head != e->events_tail)
        to[count++] = e->events[e->events_head++ % EVENTS_MAX];
    if (e->events_head != e->events_tail)
        engine_poke(e);
    return count;
}

/* ---- time ---- */

static void arm(struct engine *e)
{
    uint64_t next = wheel_next_ns(&e->wheel);
    if (!list_empty(&e->yielding) && e->yield_end_ns < next)
        next = e->yield_end_ns;
    if (e->armed_ns && e->armed_ns <= next)
        return;
    struct itimerspec when = {.it_value = {(time_t)(next / 1000000000), (long)(next % 1000000000)}};
    timerfd_settime(e->timerfd, TFD_TIMER_ABSTIME, &when, NULL);
    e->armed_ns = next;
}

static void timer_ready(struct engine *e)
{
    uint64_t count;
    if (read(e->timerfd, &count, sizeof count) == sizeof count)
        e->armed_ns = 0;
}

/* Cell 0 is everybody's, the next ones are one worker's each; the hooks compare with the kernel's monotonic clock. */
static void show_life(struct engine *e)
{
    if (!e->heartbeat)
        return;
    if (!e->draining) /* who accepts nobody is no reason to lead anybody here */
        __atomic_store_n(&e->heartbeat[0], e->now, __ATOMIC_RELAXED);
    __atomic_store_n(&e->heartbeat[1 + e->worker], e->now, __ATOMIC_RELAXED);
}

static void beat(void *owner, struct timer *timer)
{
    struct engine *e = owner;
    show_life(e);
    timer_start(&e->wheel, timer, ms_from_now(e, e->config.heartbeat_ms));
}

/* ---- the pump ---- */

static void dispatch(struct engine *e, const struct epoll_event *event)
{
    struct watch *watch = event->data.ptr;
    switch (watch->kind) {
    case WATCH_TIMER: timer_ready(e); break;
    case WATCH_KICK: kick_ready(e); break;
    case WATCH_LISTENER:
        if (watch->fd >= 0)
            listener_ready(e, container_of(watch, struct listener, watch));
        break;
    case WATCH_SIGNER: signatures_event(e, event->events); break;
    case WATCH_TUNNEL: tunnel_event(e, container_of(watch, struct tunnel, watch), event->events); break;
    case WATCH_CLIENT: session_event(e, container_of(watch, struct leg, watch), event->events); break;
    case WATCH_SERVER: {
        struct leg *leg = container_of(watch, struct leg, watch);
        if (leg->session)
            session_event(e, leg, event->events);
        else
            pool_event(e, container_of(leg, struct upstream, leg));
    }
    }
}

static void bury(struct engine *e)
{
    sessions_shed(e);
    sessions_feed(e);
    sessions_bury(e);
    tunnels_bury(e);
    pool_bury(e);
    listeners_bury(e);
}

static bool has_more(const struct engine *e)
{
    return !list_empty(&e->sessions.again) || !list_empty(&e->streams_told) || !list_empty(&e->tunnels.again) ||
           !list_empty(&e->tunnels.dirty);
}

int engine_pump(engine *e, struct engine_event *events, int capacity)
{
    uint32_t handled = 0, again, unflushed = 0;
    int count;
    COUNT(e, pumps);
    do {
        uint32_t left = e->config.budget - handled;
        count = epoll_wait(e->epoll, e->batch, left < BATCH ? (int)left : BATCH, 0);
        e->now = clock_ns();
        for (int i = 0; i < count; i++)
            dispatch(e, &e->batch[i]);
        wheel_advance(&e->wheel, e->now, e);
        listeners_resume(e);
        again = sessions_again(e) + tunnels_again(e) + streams_tell(e);
        bool idle = count <= 0 && again == 0;
        if (idle || ++unflushed == FLUSH_TURNS) {
            tunnels_flush(e);
            unflushed = 0;
        }
        bury(e);
        handled += (count > 0 ? (uint32_t)count : 0) + again;
    } while ((count > 0 || again > 0 || !list_empty(&e->streams_told)) && handled < e->config.budget);
    tunnels_flush(e);
    e->counters[COUNTER_events] += handled;
    if (handled >= e->config.budget)
        COUNT(e, budget_spent);
    if (has_more(e))
        engine_poke(e);
    neighbours_tell(e);
    arm(e);
    return take_events(e, events, capacity);
}

void engine_begin(struct engine *e)
{
    e->now = clock_ns();
}

void engine_finish(struct engine *e)
{
    bury(e);
    neighbours_tell(e);
    arm(e);
    if (e->events_head != e->events_tail || has_more(e))
        engine_poke(e);
}

void engine_set_limits(engine *e, const struct engine_limits *limits)
{
    e->config.max_connections = limits->max_connections;
    e->config.connect_timeout_ms = limits->connect_timeout_ms;
    e->config.detect_timeout_ms = limits->detect_timeout_ms;
    e->config.idle_timeout_ms = limits->idle_timeout_ms;
    e->config.stream_idle_ms = limits->stream_idle_ms;
}

static void stop_accepting(struct engine *e)
{
    e->draining = true;
    e->counters[COUNTER_draining] = 1;
    listeners_stop(e);
}

void engine_let_go(engine *e, uint8_t accept)
{
    engine_begin(e);
    e->leaving = true;
    if (!accept)
        stop_accepting(e);
    tunnels_leave(e);
    engine_finish(e);
}

void engine_end_idle(engine *e, uint32_t ms)
{
    engine_begin(e);
    sessions_leave(e, ms);
    engine_finish(e);
}

void engine_drain(engine *e)
{
    engine_begin(e);
    e->leaving = true;
    stop_accepting(e);
    tunnels_leave(e);
    sessions_leave(e, 0);
    pool_drop_all(e);
    engine_finish(e);
}

/* ---- from beginning to end ---- */

int engine_fd(const engine *e)
{
    return e->epoll;
}

static bool open_descriptors(struct engine *e)
{
    e->epoll = epoll_create1(EPOLL_CLOEXEC);
    e->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    e->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (e->epoll < 0 || e->timerfd < 0 || e->kick < 0)
        return false;
    e->timer_watch = (struct watch){.fd = e->timerfd, .kind = WATCH_TIMER};
    e->kick_watch = (struct watch){.fd = e->kick, .kind = WATCH_KICK};
    return watch_set(e, &e->timer_watch, EPOLLIN) == 0 && watch_set(e, &e->kick_watch, EPOLLIN) == 0;
}

int engine_beat_in(engine *e, int heartbeat_fd)
{
    void *map = mmap(NULL, HEARTBEAT_MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, heartbeat_fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    if (e->heartbeat)
        munmap(e->heartbeat, HEARTBEAT_MAP_BYTES);
    e->heartbeat = map;
    e->now = clock_ns();
    show_life(e);
    return 0;
}

static bool start(struct engine *e, const struct engine_config *config, int stats_fd, int heartbeat_fd, uint32_t worker)
{
    e->config = *config;
    e->worker = worker;
    e->random = config->seed ? config->seed : 0x9e3779b97f4a7c15ull;
    e->now = clock_ns();
    wheel_init(&e->wheel, e->now);
    sessions_init(e);
    signatures_init(e);
    list_init(&e->yielding);
    timer_init(&e->beat, beat);
    retire_init(e);
    e->stats = stats_open(stats_fd);
    if (!e->stats)
        return false;
    e->counters = stats_counters(e->stats);
    e->pods = calloc(SLOTS_MAX, sizeof(struct pod *));
    if (!e->pods || pool_init(e) < 0 || tunnels_init(e) < 0 || !open_descriptors(e) ||
        (heartbeat_fd >= 0 && engine_beat_in(e, heartbeat_fd) < 0))
        return false;
    beat(e, &e->beat);
    retire_start(e);
    arm(e);
    return true;
}

engine *engine_new(const struct engine_config *config, int stats_fd, int heartbeat_fd, uint32_t worker)
{
    if (config->banner_bytes > ENGINE_BANNER_MAX || config->stock_target > STOCK_MAX || config->budget == 0 ||
        1 + worker >= HEARTBEAT_MAP_BYTES / sizeof(uint64_t)) {
        errno = EINVAL;
        return NULL;
    }
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->epoll = e->timerfd = e->kick = e->signer.fd = -1;
    if (start(e, config, stats_fd, heartbeat_fd, worker))
        return e;
    int error = errno;
    engine_free(e);
    errno = error;
    return NULL;
}

static void close_descriptor(int fd)
{
    if (fd >= 0)
        close(fd);
}

void engine_free(engine *e)
{
    if (e->stats && e->pods) {
        pods_free(e);
        sessions_free(e);
        pool_free(e);
        tunnels_free(e);
        signatures_close(e);
        credentials_free(e);
        http_free(e);
        listeners_bury(e);
        plans_free(e);
        sources_free(e);
        names_free(e);
        rulings_free(e);
        blocks_free(e);
    }
    if (e->stats)
        stats_close(e->stats);
    if (e->heartbeat)
        munmap(e->heartbeat, HEARTBEAT_MAP_BYTES);
    close_descriptor(e->epoll);
    close_descriptor(e->timerfd);
    close_descriptor(e->kick);
    free(e);
}
