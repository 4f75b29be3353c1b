/* Pods' listeners, and accepting.
 *
 * A listener is shared with the other workers and stays level-triggered: whoever comes first takes a few connections,
 * the rest wakes everybody again. When we cannot accept (no descriptors, no memory, our own limit) the listener leaves
 * the epoll for a while: the queue is common, and spinning helps nobody. */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hbone.h"

#define YIELD_NS 100000 /* a worker that sleeps wakes in less; more would leave the machine idle (seen with 4 ms: -60 %) */

static bool address_of(const struct sockaddr_storage *from, struct endpoint_address *to)
{
    if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)from;
        memcpy(to->ip, &six->sin6_addr, 16);
        to->port = ntohs(six->sin6_port);
        return true;
    }
    if (from->ss_family != AF_INET)
        return false;
    const struct sockaddr_in *four = (const struct sockaddr_in *)from;
    memcpy(to->ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    memcpy(to->ip + 12, &four->sin_addr, 4);
    to->port = ntohs(four->sin_port);
    return true;
}

void listener_close(struct engine *e, struct listener **place)
{
    struct listener *listener = *place;
    if (!listener)
        return;
    *place = NULL;
    timer_stop(&listener->backoff);
    list_remove(&listener->yields);
    watch_close(e, &listener->watch, true);
    listener->dead = e->listeners_dead;
    e->listeners_dead = listener;
}

void listeners_bury(struct engine *e)
{
    while (e->listeners_dead) {
        struct listener *listener = e->listeners_dead;
        e->listeners_dead = listener->dead;
        free(listener);
    }
}

static void listener_resume(void *owner, struct timer *timer)
{
    struct listener *listener = container_of(timer, struct listener, backoff);
    watch_set(owner, &listener->watch, EPOLLIN);
}

static void listener_pause(struct engine *e, struct listener *listener)
{
    watch_mute(e, &listener->watch);
    timer_start(&e->wheel, &listener->backoff, ms_from_now(e, e->config.backoff_ms));
}

int engine_add_listener(engine *e, uint32_t slot, uint8_t direction, int fd)
{
    struct pod *pod = pod_find(e, slot);
    struct listener *listener = pod && direction <= ENGINE_INBOUND ? calloc(1, sizeof *listener) : NULL;
    if (!listener) {
        close(fd);
        return pod ? -ENOMEM : -ENOENT;
    }
    int one = 1; /* accepted sockets inherit it: one call less for each */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    engine_begin(e);
    *listener = (struct listener){.watch = {.fd = fd, .kind = WATCH_LISTENER}, .pod = pod, .direction = direction};
    timer_init(&listener->backoff, listener_resume);
    list_init(&listener->yields);
    listener_close(e, &pod->listeners[direction]);
    pod->listeners[direction] = listener;
    int result = e->draining ? 0 : watch_set(e, &listener->watch, EPOLLIN);
    if (result < 0)
        listener_close(e, &pod->listeners[direction]);
    engine_finish(e);
    return result;
}

void turn_away(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static bool is_canary(const struct engine *e, uint8_t direction, const struct endpoint_address *asked)
{
    static const uint8_t FOUR[16] = {[10] = 0xff, 0xff, 240, 0, 0, 1};
    static const uint8_t SIX[16] = {[0] = 0x01, 0x00, [14] = 0x5e, 0x1e};
    if (asked->port != e->config.canary_port)
        return false;
    return direction == ENGINE_INBOUND || memcmp(asked->ip, FOUR, 16) == 0 || memcmp(asked->ip, SIX, 16) == 0;
}

static void greet(struct engine *e, int fd)
{
    COUNT(e, canary);
    if (send(fd, e->config.banner, e->config.banner_bytes, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        COUNT(e, local_reset);
    close(fd);
}

/* Our own ports are no destination: nobody captured this connection, or it is one of ours that came back. */
static bool is_loop(const struct engine *e, const struct endpoint_address *asked)
{
    const struct engine_config *c = &e->config;
    return asked->port == c->outbound_port || asked->port == c->inbound_port || asked->port == c->tunnel_port;
}

static void welcome(struct engine *e, struct listener *listener, int fd, const struct sockaddr_storage *client)
{
    struct endpoint_address peer = {0}, asked = {0};
    struct sockaddr_storage local = {0};
    socklen_t length = sizeof local;
    if (getsockname(fd, (struct sockaddr *)&local, &length) < 0 || !address_of(&local, &asked) ||
        !address_of(client, &peer)) {
        COUNT(e, no_destination);
        turn_away(fd);
    } else if (listener->direction == ENGINE_INBOUND && asked.port == e->config.tunnel_port) {
        tunnel_accept(e, listener->pod, fd, &peer, &asked, &HBONE_DESTINATION);
    } else if (is_loop(e, &asked)) {
        COUNT(e, loop);
        turn_away(fd);
    } else if (is_canary(e, listener->direction, &asked)) {
        greet(e, fd);
    } else if (listener->direction == ENGINE_INBOUND && listener->pod->mtls == ENGINE_MTLS_STRICT) {
        COUNT(e, plaintext_refused);
        turn_away(fd);
    } else {
        session_start(e, fd, false, listener->pod->slot, listener->direction, &peer, &asked);
    }
}

/* What accept said: whether to go on with this listener. */
static bool accept_failed(struct engine *e, struct listener *listener, int error)
{
    switch (error) {
    case EAGAIN:
        return false;
    case EINTR:
        return true;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
        COUNT(e, accept_no_descriptors);
        listener_pause(e, listener);
        return false;
    case EBADF:
    case EINVAL:
    case ENOTSOCK:
    case EOPNOTSUPP: /* it will never work again: the agent sees a pod that accepts nothing */
        COUNT(e, accept_failed);
        listener_pause(e, listener);
        return false;
    default: /* accept(2): an error of the new connection itself */
        COUNT(e, accept_aborted);
        return true;
    }
}

/* Once per connection: whoever carries less has a moment to take it. */
static bool yields(struct engine *e, struct listener *listener)
{
    listener->yielded = !listener->yielded && neighbours_idler(e);
    if (!listener->yielded)
        return false;
    COUNT(e, accept_yielded);
    watch_mute(e, &listener->watch);
    if (list_empty(&e->yielding))
        e->yield_end_ns = e->now + YIELD_NS;
    list_push(&e->yielding, &listener->yields);
    return true;
}

void listeners_resume(struct engine *e)
{
    struct list *link;
    if (e->now < e->yield_end_ns)
        return;
    while ((link = list_shift(&e->yielding)))
        watch_set(e, &container_of(link, struct listener, yields)->watch, EPOLLIN);
}

void listener_ready(struct engine *e, struct listener *listener)
{
    if (yields(e, listener))
        return;
    for (uint32_t i = 0; i < e->config.accept_batch; i++) {
        struct sockaddr_storage client = {0};
        socklen_t length = sizeof client;
        if (e->counters[COUNTER_connections] >= e->config.max_connections && !session_reclaim(e)) {
            COUNT(e, accept_limited);
            listener_pause(e, listener);
            return;
        }
        int fd = accept4(listener->watch.fd, (struct sockaddr *)&client, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            COUNT(e, accepted);
            welcome(e, listener, fd, &client);
        } else if (!accept_failed(e, listener, errno)) {
            return;
        }
    }
}

int engine_adopt(engine *e, int fd, uint32_t slot, uint8_t direction, const uint8_t address[16], uint16_t port)
{
    struct endpoint_address peer = {0}, asked = {.port = port};
    struct sockaddr_storage client = {0};
    socklen_t length = sizeof client;
    memcpy(asked.ip, address, 16);
    if (direction > ENGINE_INBOUND || getpeername(fd, (struct sockaddr *)&client, &length) < 0) {
        close(fd);
        return -EINVAL;
    }
    if (!address_of(&client, &peer))
        memcpy(peer.ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12); /* not TCP: a socket pair */
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    engine_begin(e);
    COUNT(e, adopted);
    int result = session_start(e, fd, true, slot, direction, &peer, &asked);
    engine_finish(e);
    return result;
}

void listeners_stop(struct engine *e)
{
    for (uint32_t slot = 0; slot < SLOTS_MAX; slot++)
        for (int direction = 0; e->pods[slot] && direction < 2; direction++)
            listener_close(e, &e->pods[slot]->listeners[direction]);
}
