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

#define READ_TURNS 4     /* reads of one tunnel for one event, before others get their turn */
#define FLUSH_TURNS 8    /* likewise, packs of 64 KiB */
#define TICK_MS_MAX 5000 /* of an open tunnel's timer */
#define TELL_EVERY_NS (1000 * NS_PER_MS)
#define TUNNEL_EVENTS (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

static void on_timer(void *owner, struct timer *);

struct name *tunnel_peer(const struct tunnel *t)
{
    return tls_peer(t->tls);
}

static void mark(struct engine *e, struct tunnel *t)
{
    if (list_empty(&t->dirty) && t->state != TUNNEL_DEAD)
        list_push(&e->tunnels.dirty, &t->dirty);
}

void tunnel_wake(struct engine *e, struct h2 *h2)
{
    mark(e, tunnel_of(h2));
}

/* ---- the end ---- */

static void send_pending(struct engine *e, struct tunnel *t);

void tunnel_close(struct engine *e, struct tunnel *t, int error)
{
    if (t->state == TUNNEL_DEAD)
        return;
    if (t->state == TUNNEL_OPEN && !error) {
        tls_bye(t->tls);
        send_pending(e, t);
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

/* ---- bytes out ---- */

static void send_pending(struct engine *e, struct tunnel *t)
{
    size_t length;
    const uint8_t *bytes;
    while (!t->full && (bytes = tls_pending(t->tls, &length), length > 0)) {
        ssize_t sent = send(t->watch.fd, bytes, length, MSG_NOSIGNAL);
        if (sent >= 0) {
            tls_sent(t->tls, (size_t)sent);
            e->counters[COUNTER_tunnel_sent_bytes] += (uint64_t)sent;
            t->full = (size_t)sent < length;
        } else if (errno == EAGAIN) {
            t->full = true;
        } else if (errno != EINTR) {
            t->hangup = true; /* what it has said may still be read */
            tls_sent(t->tls, length);
            return;
        }
    }
}

/* false: broken. */
static bool pack(struct engine *e, struct tunnel *t)
{
    ssize_t packed = h2_pack(&t->h2, e->tunnels.plain, H2_PACK_MAX);
    if (packed > 0 && tls_write(t->tls, e->tunnels.plain, (size_t)packed) < 0)
        return false;
    return packed >= 0;
}

static bool can_pack(const struct tunnel *t)
{
    return t->state == TUNNEL_OPEN && !t->full && h2_wants_to_pack(&t->h2);
}

static bool is_over(const struct tunnel *t)
{
    return t->state == TUNNEL_OPEN && !h2_wants_to_pack(&t->h2) && !nghttp2_session_want_read(t->h2.session);
}

static void flush(struct engine *e, struct tunnel *t)
{
    for (int turn = 0; turn < FLUSH_TURNS; turn++) {
        if (can_pack(t) && !pack(e, t)) {
            COUNT(e, tunnel_broken);
            tunnel_close(e, t, EPROTO);
            return;
        }
        send_pending(e, t);
        if (!can_pack(t))
            break;
    }
    if (can_pack(t))
        mark(e, t);
    else if (is_over(t))
        tunnel_close(e, t, 0);
}

void tunnels_flush(struct engine *e)
{
    struct list all, *link;
    for (list_move(&e->tunnels.dirty, &all); (link = list_shift(&all));) {
        struct tunnel *t = container_of(link, struct tunnel, dirty);
        if (t->state != TUNNEL_CONNECTING && t->state != TUNNEL_DEAD)
            flush(e, t);
    }
}

/* ---- the handshake ---- */

/* People are told, but not a thousand times. */
static void tell(struct engine *e, const struct tunnel *t, enum tls_reason reason)
{
    const struct endpoint_address *other = t->reach ? reach_address(t->reach) : &t->remote;
    uint64_t *last_ns = &e->refusals_told_ns[reason];
    e->counters[COUNTER_tls_failed_no_certificate - 1 + (uint32_t)reason]++;
    if (*last_ns && e->now - *last_ns < TELL_EVERY_NS)
        return;
    *last_ns = e->now;
    struct engine_event event = {.kind = ENGINE_TUNNEL_REFUSED, .slot = t->slot, .reason = reason, .port = other->port,
                                 .direction = t->reach ? ENGINE_OUTBOUND : ENGINE_INBOUND};
    memcpy(event.address, other->ip, sizeof event.address);
    event_push(e, &event);
}

static void fail(struct engine *e, struct tunnel *t, enum tls_reason reason)
{
    tell(e, t, reason);
    send_pending(e, t); /* the alert: the peer shall know why */
    tunnel_close(e, t, ECONNABORTED);
}

static uint64_t next_tick(const struct engine *e)
{
    const struct engine_config *c = &e->config;
    uint32_t least = c->tunnel_ping_ms < c->tunnel_idle_ms ? c->tunnel_ping_ms : c->tunnel_idle_ms;
    return ms_from_now(e, least < TICK_MS_MAX ? least : TICK_MS_MAX);
}

static void opened(struct engine *e, struct tunnel *t)
{
    COUNT(e, tls_handshakes);
    if (tls_was_resumed(t->tls))
        COUNT(e, tls_resumed);
    if (!t->reach)
        LESS(e, handshakes);
    t->state = TUNNEL_OPEN;
    t->heard_ns = t->used_ns = e->now;
    timer_start(&e->wheel, &t->timer, next_tick(e));
}

static void handshake(struct engine *e, struct tunnel *t)
{
    t->paused = false;
    switch (tls_handshake(t->tls)) {
    case TLS_STEP_DONE: opened(e, t); break;
    case TLS_STEP_MORE: t->paused = tls_is_paused(t->tls); break;
    case TLS_STEP_FAILED: fail(e, t, tls_failure(t->tls)); return;
    }
    mark(e, t);
}

/* ---- bytes in ---- */

/* What is in TLS's hands; false: the tunnel is no more. */
static bool digest(struct engine *e, struct tunnel *t)
{
    ssize_t got;
    if (t->state == TUNNEL_HANDSHAKE && !t->paused)
        handshake(e, t);
    if (t->state != TUNNEL_OPEN)
        return t->state != TUNNEL_DEAD;
    while ((got = tls_read(t->tls, e->tunnels.plain, H2_PACK_MAX)) > 0) {
        t->greeted = true;
        if (h2_feed(&t->h2, e->tunnels.plain, (size_t)got) == 0)
            continue;
        COUNT(e, tunnel_broken);
        pack(e, t); /* GOAWAY says why */
        send_pending(e, t);
        tunnel_close(e, t, EPROTO);
        return false;
    }
    if (got == -EAGAIN)
        return true;
    if (got == -ECONNABORTED)
        tell(e, t, TLS_told);
    else if (got != 0)
        COUNT(e, tunnel_broken);
    tunnel_close(e, t, (int)-got);
    return false;
}

static void ended(struct engine *e, struct tunnel *t, int error)
{
    if (t->state == TUNNEL_OPEN)
        COUNT(e, tunnel_cut);
    else
        tell(e, t, TLS_broken);
    tunnel_close(e, t, error);
}

static void read_some(struct engine *e, struct tunnel *t)
{
    for (int turn = 0; turn < READ_TURNS && t->readable && !t->paused; turn++) {
        ssize_t got = recv(t->watch.fd, e->tunnels.cipher, sizeof e->tunnels.cipher, 0);
        if (got > 0) {
            t->heard_ns = e->now;
            t->pinged = false;
            t->readable = t->hangup || got == sizeof e->tunnels.cipher;
            e->counters[COUNTER_tunnel_received_bytes] += (uint64_t)got;
            if (!tls_feed(t->tls, e->tunnels.cipher, (size_t)got)) {
                COUNT(e, no_memory);
                tunnel_close(e, t, ENOMEM);
                return;
            }
            if (!digest(e, t))
                return;
        } else if (got < 0 && errno == EAGAIN) {
            t->readable = false;
        } else if (got == 0 || errno != EINTR) {
            ended(e, t, got == 0 ? ECONNRESET : errno);
            return;
        }
    }
    if (t->readable && !t->paused && list_empty(&t->again))
        list_push(&e->tunnels.again, &t->again);
}

uint32_t tunnels_again(struct engine *e)
{
    struct list all, *link;
    uint32_t count = 0;
    for (list_move(&e->tunnels.again, &all); (link = list_shift(&all)); count++)
        read_some(e, container_of(link, struct tunnel, again));
    return count;
}

void tunnel_signed(struct engine *e, struct tunnel *t)
{
    if (t->state != TUNNEL_HANDSHAKE)
        return;
    t->paused = false;
    if (digest(e, t))
        read_some(e, t);
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
    handshake(e, t);
}

void tunnel_event(struct engine *e, struct tunnel *t, uint32_t events)
{
    if (t->state == TUNNEL_DEAD)
        return;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        t->hangup = true;
    if (events & EPOLLOUT) {
        t->full = false;
        mark(e, t);
    }
    if (t->state == TUNNEL_CONNECTING)
        connected(e, t);
    if (t->state == TUNNEL_DEAD || !(events & ~(uint32_t)EPOLLOUT))
        return;
    t->readable = true;
    read_some(e, t);
}

static void check(struct engine *e, struct tunnel *t)
{
    const struct engine_config *c = &e->config;
    uint64_t silent_ns = e->now - t->heard_ns;
    h2_sweep(&t->h2, e->now - c->linger_ms * NS_PER_MS);
    if (t->h2.stream_count)
        t->used_ns = e->now;
    if (t->pinged && silent_ns >= (c->tunnel_ping_ms + c->tunnel_silence_ms) * NS_PER_MS) {
        COUNT(e, tunnel_silent);
        tunnel_close(e, t, ETIMEDOUT);
    } else if (t->h2.stream_count == 0 && (t->h2.went_away || e->now - t->used_ns >= c->tunnel_idle_ms * NS_PER_MS)) {
        COUNT(e, tunnel_idle);
        if (!t->h2.went_away)
            h2_goodbye(&t->h2);
        flush(e, t);
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
    if (t->state != TUNNEL_OPEN) {
        COUNT(e, tls_timeout);
        tunnel_close(e, t, ETIMEDOUT);
        return;
    }
    check(e, t);
    if (t->state == TUNNEL_OPEN)
        timer_start(&e->wheel, timer, next_tick(e));
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

struct tunnel *tunnel_dial(struct engine *e, uint32_t slot, struct name *peer, const struct endpoint_address *to, int fd,
                           const struct h2_use *use)
{
    const struct pod *pod = pod_find(e, slot);
    struct credential *credential = pod ? credential_find(e, pod->identity) : NULL;
    if (!credential) {
        COUNT(e, tunnel_no_identity);
        return refuse(fd, ENOKEY);
    }
    if (reach_waits(e, slot, peer, to)) {
        COUNT(e, tunnel_held_back);
        return refuse(fd, ECONNABORTED);
    }
    struct tunnel *t = tunnel_new(e, fd, slot, credential, false, peer, use);
    struct reach *reach = t ? reach_join(e, t, peer, to) : NULL;
    if (!reach) {
        COUNT(e, no_memory);
        if (t)
            tunnel_close(e, t, ENOMEM);
        errno = ENOMEM;
        return NULL;
    }
    if (reach_session(e, reach))
        tls_resume(t->tls, reach_session(e, reach));
    struct sockaddr_storage address;
    socklen_t length = fill_address(to, to->port, &address);
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
