/* The life of one tunnel: connecting, handshake, bytes in, bytes out, its end. The contract is in tunnel.h; which one a
 * stream takes is in reach.c. */
#include "tunnel.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "credential.h"
#include "reach.h"

#define TICK_MS_MAX 5000 /* of an open tunnel's timer */
#define TUNNEL_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

static void on_timer(void *owner, struct timer *);

struct name *tunnel_peer(const struct tunnel *t)
{
    return tls_peer(t->tls);
}

void tunnel_mark(struct engine *e, struct tunnel *t)
{
    if (list_empty(&t->dirty) && t->state != TUNNEL_DEAD)
        list_push(&e->tunnels.dirty, &t->dirty);
}

void tunnel_wake(struct engine *e, struct h2 *h2)
{
    tunnel_mark(e, tunnel_of(h2));
}

/* ---- the end ---- */

void tunnel_close(struct engine *e, struct tunnel *t, int error)
{
    if (t->state == TUNNEL_DEAD)
        return;
    if (t->state == TUNNEL_OPEN && !error) {
        tls_bye(t->tls);
        tunnel_send(e, t);
    }
    bool refused = t->state != TUNNEL_CONNECTING && !t->greeted;
    if (t->state == TUNNEL_HANDSHAKE && !t->reach)
        LESS(e, handshakes);
    t->state = TUNNEL_DEAD;
    list_remove(&t->all);
    list_remove(&t->dirty);
    list_remove(&t->again);
    timer_stop(&t->timer);
    if (t->h2.session)
        h2_end(&t->h2, error ? error : ECONNRESET);
    if (t->reach)
        reach_leave(e, t, tls_session(t->tls), refused);
    tls_free(t->tls);
    t->tls = NULL;
    watch_close(e, &t->watch, true);
    list_push(&e->tunnels.dead, &t->all);
    LESS(e, tunnels);
}

void tunnels_bury(struct engine *e)
{
    struct list *link;
    while ((link = list_shift(&e->tunnels.dead)))
        free(container_of(link, struct tunnel, all));
}

/* ---- events ---- */

static void connected(struct engine *e, struct tunnel *t)
{
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(t->watch.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error) {
        COUNT(e, tunnel_unreachable);
        tunnel_close(e, t, error);
        return;
    }
    t->state = TUNNEL_HANDSHAKE;
    tunnel_handshake(e, t);
}

void tunnel_event(struct engine *e, struct tunnel *t, uint32_t events)
{
    if (t->state == TUNNEL_DEAD)
        return;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        t->hangup = true;
    if (events & EPOLLOUT) {
        t->full = false;
        tunnel_mark(e, t);
    }
    if (t->state == TUNNEL_CONNECTING)
        connected(e, t);
    if (t->state == TUNNEL_DEAD || !(events & ~(uint32_t)EPOLLOUT))
        return;
    t->readable = true;
    tunnel_read(e, t);
}

static uint64_t next_tick(const struct engine *e)
{
    const struct engine_config *c = &e->config;
    uint32_t least = c->tunnel_ping_ms < c->tunnel_idle_ms ? c->tunnel_ping_ms : c->tunnel_idle_ms;
    return ms_from_now(e, least < TICK_MS_MAX ? least : TICK_MS_MAX);
}

void tunnel_tick(struct engine *e, struct tunnel *t)
{
    timer_start(&e->wheel, &t->timer, next_tick(e));
}

static void check(struct engine *e, struct tunnel *t)
{
    const struct engine_config *c = &e->config;
    uint64_t silent_ns = e->now - t->heard_ns;
    if (t->h2.went_away)
        h2_last_word(&t->h2);
    h2_sweep(&t->h2, e->now - c->linger_ms * NS_PER_MS);
    if (t->h2.stream_count)
        t->used_ns = e->now;
    if (t->pinged && silent_ns >= (c->tunnel_ping_ms + c->tunnel_silence_ms) * NS_PER_MS) {
        COUNT(e, tunnel_silent);
        tunnel_close(e, t, ETIMEDOUT);
    } else if (t->h2.stream_count == 0 && (t->h2.said_goodbye || e->now - t->used_ns >= c->tunnel_idle_ms * NS_PER_MS)) {
        COUNT(e, tunnel_idle);
        h2_goodbye(&t->h2);
        h2_last_word(&t->h2);
        tunnel_flush(e, t);
        tunnel_close(e, t, 0);
    } else if (!t->pinged && silent_ns >= c->tunnel_ping_ms * NS_PER_MS) {
        t->pinged = true;
        h2_ping(&t->h2);
    }
}

static void on_timer(void *owner, struct timer *timer)
{
    struct engine *e = owner;
    struct tunnel *t = container_of(timer, struct tunnel, timer);
    if (t->paused) {
        tunnel_refuse(e, t, TLS_unsigned);
        return;
    }
    if (t->state != TUNNEL_OPEN) {
        COUNT(e, tls_timeout);
        tunnel_close(e, t, ETIMEDOUT);
        return;
    }
    check(e, t);
    if (t->state == TUNNEL_OPEN)
        tunnel_tick(e, t);
}

/* ---- the beginning ---- */

static struct tunnel *tunnel_new(struct engine *e, int fd, uint32_t slot, struct credential *credential, bool server,
                                 struct name *expected, const struct h2_use *use)
{
    struct tunnel *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->watch = (struct watch){.fd = fd, .kind = WATCH_TUNNEL};
    t->slot = slot;
    t->trust_version = e->trust_version;
    list_init(&t->all);
    list_init(&t->dirty);
    list_init(&t->again);
    timer_init(&t->timer, on_timer);
    t->tls = tls_new(e, credential, server, expected, t);
    if (!t->tls || h2_begin(&t->h2, e, use) < 0) {
        if (t->tls)
            tls_free(t->tls);
        free(t);
        return NULL;
    }
    int one = 1, waiting = H2_PACK_MAX;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &waiting, sizeof waiting);
    timer_start(&e->wheel, &t->timer, ms_from_now(e, e->config.tunnel_handshake_ms));
    COUNT(e, tunnels);
    return t;
}

static struct tunnel *refuse(int fd, int error)
{
    close(fd);
    errno = error;
    return NULL;
}

struct tunnel *tunnel_dial(struct engine *e, uint32_t slot, const struct whom *whom, int fd, const struct h2_use *use)
{
    const struct pod *pod = pod_find(e, slot);
    struct credential *credential = pod ? credential_find(e, pod->identity) : NULL;
    if (!credential) {
        COUNT(e, tunnel_no_identity);
        return refuse(fd, ENOKEY);
    }
    if (reach_waits(e, slot, whom)) {
        COUNT(e, tunnel_held_back);
        return refuse(fd, ECONNABORTED);
    }
    struct tunnel *t = tunnel_new(e, fd, slot, credential, false, whom->peer, use);
    if (!t) {
        COUNT(e, no_memory);
        return refuse(fd, ENOMEM);
    }
    struct reach *reach = reach_join(e, t, whom);
    if (!reach) {
        COUNT(e, no_memory);
        tunnel_close(e, t, ENOMEM);
        errno = ENOMEM;
        return NULL;
    }
    if (reach_session(e, reach))
        tls_resume(t->tls, reach_session(e, reach));
    struct sockaddr_storage address;
    socklen_t length = fill_address(&whom->to, whom->to.port, &address);
    COUNT(e, tunnels_dialled);
    int failed = connect(fd, (struct sockaddr *)&address, length);
    if ((failed && errno != EINPROGRESS) || watch_set(e, &t->watch, TUNNEL_EVENTS) < 0) {
        int error = errno;
        COUNT(e, tunnel_unreachable);
        tunnel_close(e, t, error);
        errno = error;
        return NULL;
    }
    return t;
}

void tunnel_accept(struct engine *e, struct pod *pod, int fd, const struct endpoint_address *peer,
                   const struct endpoint_address *asked, const struct h2_use *use)
{
    struct credential *credential = pod->mtls == ENGINE_MTLS_DISABLED ? NULL : credential_find(e, pod->identity);
    bool full = e->counters[COUNTER_tunnels] >= e->config.max_tunnels ||
                e->counters[COUNTER_handshakes] >= e->config.max_handshakes;
    if (!credential || e->draining || full) {
        e->counters[credential ? COUNTER_tunnel_limited : COUNTER_tunnel_no_identity]++;
        turn_away(fd);
        return;
    }
    struct tunnel *t = tunnel_new(e, fd, pod->slot, credential, true, NULL, use);
    if (!t) {
        COUNT(e, no_memory);
        turn_away(fd);
        return;
    }
    COUNT(e, tunnels_accepted);
    COUNT(e, handshakes);
    t->state = TUNNEL_HANDSHAKE;
    t->remote = *peer;
    t->local = *asked;
    list_push(&e->tunnels.accepted, &t->all);
    if (watch_set(e, &t->watch, TUNNEL_EVENTS) < 0)
        tunnel_close(e, t, errno);
}
