/* Which endpoint, with which socket, and connecting to it; another endpoint when that fails. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hbone.h"

#define FAILURE_COST 10.0
#define NOTE_LEVEL 0x5e1e /* our private level of set/getsockopt, answered by a hook on the fixed cgroup */
#define NOTE_TRUE_CLIENT 1

static void on_timer(void *owner, struct timer *);

void dial_init(struct dial *d)
{
    list_init(&d->queued);
    timer_init(&d->timer, on_timer);
}

static struct session *session_of(struct dial *d)
{
    return container_of(d, struct session, dial);
}

/* Tells the kernel who the client is, so that the app sees it. Without the hook (tests, other modes) it sees us. */
static void note_client(struct engine *e, int fd, const struct endpoint_address *peer)
{
    struct sockaddr_in6 client = {.sin6_family = AF_INET6, .sin6_port = htons(peer->port)};
    memcpy(&client.sin6_addr, peer->ip, 16);
    if (setsockopt(fd, NOTE_LEVEL, NOTE_TRUE_CLIENT, &client, sizeof client) == 0)
        return;
    if (errno == ENOPROTOOPT || errno == EOPNOTSUPP)
        COUNT(e, note_unsupported);
    else
        COUNT(e, note_failed);
}

socklen_t fill_address(const struct endpoint_address *from, uint16_t port, struct sockaddr_storage *to)
{
    if (address_is_v4(from->ip)) {
        struct sockaddr_in *four = (struct sockaddr_in *)to;
        *four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
        memcpy(&four->sin_addr, from->ip + 12, 4);
        return sizeof *four;
    }
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)to;
    *six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&six->sin6_addr, from->ip, 16);
    return sizeof *six;
}

/* Within a node the handshake is over when connect returns, which a second call tells: it saves an event, a
 * getsockopt and an epoll_ctl per connection. An endpoint that is further away is not asked again. */
static int check_connected(struct target *target, int fd, const struct sockaddr *address, socklen_t length)
{
    if (!target->near)
        return 0;
    if (connect(fd, address, length) == 0)
        return 1;
    if (errno != EALREADY)
        return -errno;
    target->near = false;
    return 0;
}

/* 1: connected, 0: under way, or -errno. */
static int start_connect(struct engine *e, struct session *s, int fd)
{
    struct target *target = s->dial.target;
    struct sockaddr_storage address;
    uint16_t port = target->address.port ? target->address.port : s->asked.port;
    socklen_t length = fill_address(&target->address, port, &address);
    if (target->slot >= 0)
        note_client(e, fd, &s->peer);
    COUNT(e, dialled);
    if (connect(fd, (struct sockaddr *)&address, length) == 0)
        return 1;
    return errno == EINPROGRESS ? check_connected(target, fd, (struct sockaddr *)&address, length) : -errno;
}

/* ---- the way as a whole ---- */

static void enter(struct engine *e, struct dial *d, enum dial_state state)
{
    if (d->state == DIAL_WAITING)
        LESS(e, waiting);
    list_remove(&d->queued);
    timer_stop(&d->timer);
    d->state = (uint8_t)state;
}

static void leave_target(struct engine *e, struct dial *d)
{
    if (!d->target)
        return;
    d->target->load.pending--;
    target_unref(e, d->target);
    d->target = NULL;
}

void dial_leave(struct engine *e, struct session *s, bool reset)
{
    struct dial *d = &s->dial;
    enter(e, d, DIAL_NONE);
    if (d->up)
        upstream_close(e, d->up, reset);
    d->up = NULL;
    leave_target(e, d);
}

void dial_observe(struct engine *e, struct session *s, double rtt_ns)
{
    balance_observe(&s->dial.target->load, rtt_ns, e->now, e->config.decay_ms * (double)NS_PER_MS);
}

/* An endpoint that refuses is not a fast one: for the balancer it costs ten times what an unknown one does. */
void dial_observe_failure(struct engine *e, struct session *s)
{
    dial_observe(e, s, e->config.default_rtt_ms * (double)NS_PER_MS * FAILURE_COST);
}

/* Nothing was sent to any server: HTTP is told why, all else sees a reset, as if the server had refused it. */
static void give_up(struct engine *e, struct session *s, enum flag flag)
{
    dial_leave(e, s, true);
    if (s->exchange)
        http_not_connected(e, s, flag);
    else
        session_give_up(e, s, flag);
}

/* Who came from another node hears that it may speak. */
static void open_tunnelled(struct engine *e, struct session *s)
{
    hbone_answer(e, s);
    if (s->arrival)
        carry_answer(e, s, 200);
}

static void done(struct engine *e, struct session *s)
{
    enter(e, &s->dial, DIAL_CONNECTED);
    open_tunnelled(e, s);
    if (s->exchange)
        http_connected(e, s);
    else
        opaque_begin(e, s);
}

static void dial_again(struct engine *e, struct session *s)
{
    dial_leave(e, s, false);
    if (s->dial.count >= DIALS_MAX) {
        give_up(e, s, FLAG_UF);
        return;
    }
    COUNT(e, dial_retried);
    dial_begin(e, s);
}

static void wait_for_socket(struct engine *e, struct session *s, struct stock *stock)
{
    if (e->counters[COUNTER_waiting] >= e->config.max_waiting) {
        COUNT(e, wait_limited);
        give_up(e, s, FLAG_UO);
        return;
    }
    enter(e, &s->dial, DIAL_WAITING);
    COUNT(e, waiting);
    COUNT(e, waited);
    list_push(&stock->waiters, &s->dial.queued);
    timer_start(&e->wheel, &s->dial.timer, ms_from_now(e, e->config.stock_wait_ms));
    session_watch(e, s);
}

/* ---- by tunnel ---- */

static void dial_failed(struct engine *e, struct session *s, int error);

static struct whom whom_of(const struct engine *e, const struct target *target)
{
    struct whom whom = {.peer = target->peer, .workload = target->id, .to = target->address};
    whom.to.port = e->config.tunnel_port;
    return whom;
}

/* A stream in it: the dial goes on when the other side has answered. */
static void dial_stream(struct engine *e, struct session *s, struct tunnel *t)
{
    struct dial *d = &s->dial;
    enter(e, d, DIAL_CONNECTING);
    struct stream *st = hbone_request(e, s, t);
    d->up = st ? upstream_new(e, -1, s->slot) : NULL;
    if (!d->up) {
        if (st)
            stream_leave(e, st, true);
        dial_failed(e, s, ENOMEM);
        return;
    }
    stream_hold(st, &d->up->leg);
    d->up->leg.session = s;
    d->began_ns = clock_ns();
    COUNT(e, dialled);
    timer_start(&e->wheel, &d->timer, ms_from_now(e, e->config.connect_timeout_ms));
    session_watch(e, s);
}

/* By another way to its node than HBONE, if a carrier goes there: it says so within the time to connect, or it is HBONE. */
static void dial_ask(struct engine *e, struct session *s)
{
    struct dial *d = &s->dial;
    enter(e, d, DIAL_ASKING);
    d->began_ns = clock_ns();
    carry_ask(e, s);
    timer_start(&e->wheel, &d->timer, ms_from_now(e, e->config.connect_timeout_ms));
    session_watch(e, s);
}

static void dial_tunnel(struct engine *e, struct session *s, int fd)
{
    struct target *target = s->dial.target;
    struct whom whom = whom_of(e, target);
    struct tunnel *t = tunnel_find(e, s->slot, &whom); /* since it was asked for */
    if (t)
        close(fd);
    else
        t = tunnel_dial(e, s->slot, &whom, fd, &HBONE_SOURCE);
    if (t)
        dial_stream(e, s, t);
    else
        dial_failed(e, s, errno);
}

static void dial_fresh(struct engine *e, struct session *s)
{
    struct target *target = s->dial.target;
    if (goes_by_tunnel(s, target) && target->node && !s->dial.by_hbone) {
        dial_ask(e, s);
        return;
    }
    struct whom whom = whom_of(e, target);
    struct tunnel *t = goes_by_tunnel(s, target) ? tunnel_find(e, s->slot, &whom) : NULL;
    if (t) {
        dial_stream(e, s, t);
        return;
    }
    struct pod *pod = pod_find(e, dialled_in(s, target));
    if (!pod) {
        COUNT(e, no_pod);
        dial_again(e, s);
        return;
    }
    int family = !address_is_v4(target->address.ip);
    int fd = stock_take(e, pod, family);
    if (fd >= 0)
        dial_with(e, &s->dial, fd);
    else
        wait_for_socket(e, s, &pod->stock[family]);
}

void dial_repeat(struct engine *e, struct session *s)
{
    enter(e, &s->dial, DIAL_NONE);
    upstream_close(e, s->dial.up, true);
    s->dial.up = NULL;
    dial_fresh(e, s);
}

/* false: the pod's policies have ended it, or put it off. */
static bool admitted(struct engine *e, struct session *s)
{
    switch (policies_admit(e, s)) {
    case ADMIT_YES:
        return true;
    case ADMIT_LATER:
        dial_leave(e, s, false);
        s->dial.count = 0;
        open_tunnelled(e, s); /* else nobody would speak */
        session_wait(e, s);
        return false;
    case ADMIT_DENIED:
        hbone_refusal(s, 401);
        give_up(e, s, FLAG_UAEX);
        return false;
    default:
        give_up(e, s, FLAG_DPE);
        return false;
    }
}

void dial_begin(struct engine *e, struct session *s)
{
    struct dial *d = &s->dial;
    struct target *target = plan_pick(e, s->plan, d->tried, d->count);
    if (!target) {
        if (d->count == 0)
            COUNT(e, no_endpoint);
        give_up(e, s, d->count ? FLAG_UF : FLAG_UH);
        return;
    }
    d->by_hbone = false;
    d->tried[d->count++] = &target->load;
    d->target = target;
    d->endpoint = target->id;
    d->secured = goes_by_tunnel(s, target);
    target->load.pending++;
    if (!admitted(e, s))
        return;
    if (s->exchange && (d->up = pool_take(e, s, target)))
        done(e, s);
    else
        dial_fresh(e, s);
}

void dial_without_socket(struct engine *e, struct dial *d)
{
    dial_again(e, session_of(d));
}

/* Who is denied at one endpoint is denied, and not sent to another in the hope that it is laxer. */
static void dial_denied(struct engine *e, struct session *s)
{
    COUNT(e, dial_denied);
    hbone_refusal(s, 401);
    give_up(e, s, FLAG_UAEX);
}

static void dial_failed(struct engine *e, struct session *s, int error)
{
    if (error == EACCES) {
        dial_denied(e, s);
        return;
    }
    if (error == ESTALE && !s->dial.stale) { /* its tunnel has said goodbye: the same endpoint, by another one */
        s->dial.stale = true;
        s->dial.count--;
        dial_again(e, s);
        return;
    }
    dial_observe_failure(e, s);
    switch (error) {
    case ECONNREFUSED:
    case ECONNRESET: COUNT(e, dial_refused); break;
    case ETIMEDOUT: COUNT(e, dial_timeout); break;
    case ENETUNREACH:
    case EHOSTUNREACH: COUNT(e, dial_unreachable); break;
    default: COUNT(e, dial_failed); break;
    }
    dial_again(e, s);
}

void dial_with(struct engine *e, struct dial *d, int fd)
{
    struct session *s = session_of(d);
    if (goes_by_tunnel(s, d->target)) {
        dial_tunnel(e, s, fd);
        return;
    }
    enter(e, d, DIAL_CONNECTING);
    d->up = upstream_new(e, fd, dialled_in(s, d->target));
    if (!d->up) {
        dial_failed(e, s, ENOMEM);
        return;
    }
    d->up->leg.session = s;
    d->began_ns = clock_ns();
    int result = start_connect(e, s, fd);
    if (result < 0) {
        dial_failed(e, s, -result);
    } else if (result > 0) {
        done(e, s);
    } else {
        timer_start(&e->wheel, &d->timer, ms_from_now(e, e->config.connect_timeout_ms));
        session_watch(e, s);
    }
}

static void dial_by_hbone(struct engine *e, struct session *s)
{
    enter(e, &s->dial, DIAL_NONE);
    s->dial.by_hbone = true;
    dial_fresh(e, s);
}

void dial_carried(struct engine *e, struct session *s, int fd, uint16_t status)
{
    struct dial *d = &s->dial;
    if (fd >= 0 && status == 200) {
        COUNT(e, dialled);
        d->up = upstream_new(e, fd, s->slot);
        if (d->up) {
            d->up->leg.session = s;
            done(e, s);
        } else {
            dial_failed(e, s, ENOMEM);
        }
    } else if (status == 421 || status == 200) {
        COUNT(e, carry_by_hbone);
        dial_by_hbone(e, s);
    } else {
        COUNT(e, carry_refused);
        dial_failed(e, s, status == 401 || status == 403 ? EACCES : status == 503 ? ECONNREFUSED : EPROTO);
    }
}

void dial_event(struct engine *e, struct session *s)
{
    int error = 0;
    socklen_t length = sizeof error;
    const struct stream *st = s->dial.up->leg.stream;
    if (st && !st->broken && !st->open)
        return;
    if (st)
        error = st->error;
    else
        getsockopt(s->dial.up->leg.watch.fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error)
        dial_failed(e, s, error);
    else
        done(e, s);
}

static void on_timer(void *owner, struct timer *timer)
{
    struct engine *e = owner;
    struct session *s = session_of(container_of(timer, struct dial, timer));
    if (s->dial.state == DIAL_WAITING) {
        COUNT(e, wait_timeout);
        dial_again(e, s);
    } else if (s->dial.state == DIAL_ASKING) {
        COUNT(e, carry_timeout);
        dial_by_hbone(e, s);
    } else {
        dial_failed(e, s, ETIMEDOUT);
    }
}
