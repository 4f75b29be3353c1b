/* A tunnel's bytes: the handshake, what comes in and to whom it goes, what leaves and when. The contract is in tunnel.h. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "reach.h"
#include "tunnel.h"

#define READ_TURNS 4     /* reads of one tunnel for one event, before others get their turn */
#define FLUSH_TURNS 8    /* likewise, packs of 64 KiB */
#define TELL_EVERY_NS (1000 * NS_PER_MS)

/* ---- bytes out ---- */

void tunnel_send(struct engine *e, struct tunnel *t)
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

void tunnel_flush(struct engine *e, struct tunnel *t)
{
    for (int turn = 0; turn < FLUSH_TURNS; turn++) {
        if (can_pack(t) && !pack(e, t)) {
            COUNT(e, tunnel_broken);
            tunnel_close(e, t, EPROTO);
            return;
        }
        tunnel_send(e, t);
        if (!can_pack(t))
            break;
    }
    if (can_pack(t))
        tunnel_mark(e, t);
    else if (is_over(t))
        tunnel_close(e, t, 0);
}

void tunnels_flush(struct engine *e)
{
    struct list all, *link;
    for (list_move(&e->tunnels.dirty, &all); (link = list_shift(&all));) {
        struct tunnel *t = container_of(link, struct tunnel, dirty);
        if (t->state != TUNNEL_CONNECTING && t->state != TUNNEL_DEAD)
            tunnel_flush(e, t);
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

void tunnel_refuse(struct engine *e, struct tunnel *t, enum tls_reason reason)
{
    tell(e, t, reason);
    tunnel_send(e, t); /* the alert: the peer shall know why */
    tunnel_close(e, t, ECONNABORTED);
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
    tunnel_tick(e, t);
}

void tunnel_handshake(struct engine *e, struct tunnel *t)
{
    t->paused = false;
    switch (tls_handshake(t->tls)) {
    case TLS_STEP_DONE: opened(e, t); break;
    case TLS_STEP_MORE: t->paused = tls_is_paused(t->tls); break;
    case TLS_STEP_FAILED: tunnel_refuse(e, t, tls_failure(t->tls)); return;
    }
    tunnel_mark(e, t);
}

/* ---- bytes in ---- */

/* What is in TLS's hands; false: the tunnel is no more. */
static bool digest(struct engine *e, struct tunnel *t)
{
    ssize_t got;
    if (t->state == TUNNEL_HANDSHAKE && !t->paused)
        tunnel_handshake(e, t);
    if (t->state != TUNNEL_OPEN)
        return t->state != TUNNEL_DEAD;
    while ((got = tls_read(t->tls, e->tunnels.plain, H2_PACK_MAX)) > 0) {
        t->greeted = true;
        if (h2_feed(&t->h2, e->tunnels.plain, (size_t)got) == 0)
            continue;
        COUNT(e, tunnel_broken);
        pack(e, t); /* GOAWAY says why */
        tunnel_send(e, t);
        tunnel_close(e, t, EPROTO);
        return false;
    }
    if (got == -EAGAIN)
        return true;
    if (got == -ECONNABORTED)
        tell(e, t, TLS_told);
    else if (got == -EDQUOT)
        COUNT(e, tls_update_flood);
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

void tunnel_read(struct engine *e, struct tunnel *t)
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
        tunnel_read(e, container_of(link, struct tunnel, again));
    return count;
}

void tunnel_signed(struct engine *e, struct tunnel *t)
{
    if (t->state != TUNNEL_HANDSHAKE)
        return;
    t->paused = false;
    if (digest(e, t))
        tunnel_read(e, t);
}

