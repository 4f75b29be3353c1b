/* An open connection whose bytes are carried as they are, until both sides have ended. */
#include "core.h"

static void pass_end(struct engine *e, struct leg *from, struct leg *to)
{
    if (!from->ended || from->rx || from->reset || to->shut)
        return;
    leg_shut(e, to);
}

/* After every step of an open session: passes on what ended, and ends it when both sides have. */
static void settle(struct engine *e, struct session *s)
{
    struct leg *client = &s->client, *server = server_of(s);
    bool client_done = client->ended && !client->rx, server_done = server->ended && !server->rx;
    if (client->reset && (client_done || server->reset)) {
        COUNT(e, client_reset);
        session_end(e, s, FLAG_DC, true, true);
    } else if (server_done && server->reset) {
        COUNT(e, server_reset);
        session_end(e, s, FLAG_UC, true, true);
    } else if (client_done && server_done) {
        session_end(e, s, FLAG_NONE, false, false);
    } else {
        pass_end(e, client, server);
        pass_end(e, server, client);
        session_watch(e, s);
    }
}

static void arm_open(struct engine *e, struct session *s)
{
    bool held = !s->decided && s->client.rx;
    uint64_t due_ns = held ? ms_from_now(e, e->config.detect_hold_ms)
                           : s->active_ns + e->config.idle_timeout_ms * NS_PER_MS;
    timer_start(&e->wheel, &s->timer, due_ns);
}

/* false: it was HTTP, and is not carried as it is. */
static bool client_to_server(struct engine *e, struct session *s)
{
    bool held = s->client.rx;
    if (!s->decided) {
        leg_fill(e, &s->client);
        session_look(e, s);
        if (s->spoken == SPOKEN_HTTP1) {
            http_begin(e, s);
            return false;
        }
    }
    if (s->decided)
        leg_flow(e, &s->client, server_of(s));
    else if (!held && s->client.rx)
        arm_open(e, s);
    return true;
}

static void server_to_client(struct engine *e, struct session *s)
{
    struct leg *server = server_of(s);
    if (!s->decided) {
        leg_fill(e, server);
        if (!server->rx && !server->ended)
            return;
        if (server->rx) {
            COUNT(e, server_first);
            plan_learn(s->plan, s->asked.port, SPEAKER_SERVER);
        }
        session_decide(e, s, session_guess(s));
    }
    leg_flow(e, server, &s->client);
}

void opaque_begin(struct engine *e, struct session *s)
{
    dial_observe(e, s, (double)(clock_ns() - s->dial.began_ns));
    session_enter(e, s, SESSION_OPEN);
    s->client.starved = false;
    s->active_ns = e->now;
    if (s->decided)
        session_count_opened(e, s);
    arm_open(e, s);
    if ((s->client.rx || s->client.ended) && !client_to_server(e, s))
        return;
    settle(e, s);
}

void opaque_upgrade(struct engine *e, struct session *s)
{
    session_enter(e, s, SESSION_OPEN);
    s->active_ns = e->now;
    arm_open(e, s);
    if (s->client.rx)
        leg_flow(e, &s->client, server_of(s));
    if (server_of(s)->rx)
        leg_flow(e, server_of(s), &s->client);
    settle(e, s);
}

void opaque_event(struct engine *e, struct leg *leg, uint32_t events)
{
    struct session *s = leg->session;
    bool client = leg == &s->client;
    bool readable = events & (EPOLLIN | EPOLLERR | EPOLLHUP), writable = events & EPOLLOUT;
    if ((client ? readable : writable) && !client_to_server(e, s))
        return;
    if (client ? writable : readable)
        server_to_client(e, s);
    settle(e, s);
}

void opaque_timeout(struct engine *e, struct session *s)
{
    if (!s->decided && s->client.rx) {
        COUNT(e, detect_timeout);
        session_decide(e, s, session_guess(s));
        client_to_server(e, s); /* it is not HTTP */
        arm_open(e, s);
        settle(e, s);
    } else if (e->now - s->active_ns >= e->config.idle_timeout_ms * NS_PER_MS) {
        COUNT(e, idle_timeout);
        session_end(e, s, FLAG_SI, true, true);
    } else {
        arm_open(e, s);
    }
}
