/* An HTTP/2 session, and what streams and their connection ask of it. The contract is in h2.h. */
#include "h2.h"

#include <errno.h>
#include <stdio.h>

#define STREAM_WINDOW (4 << 20)
#define CONNECTION_WINDOW (16 << 20)
#define FRAME_MAX (1 << 20)
#define SERVER_STREAMS_MAX 200

/* ---- the session ---- */

static int announce(struct h2 *h2)
{
    const nghttp2_settings_entry both[] = {
        {h2->use->server ? NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS : NGHTTP2_SETTINGS_ENABLE_PUSH,
         h2->use->server ? SERVER_STREAMS_MAX : 0},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
        {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FRAME_MAX},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, h2->use->server ? H2_HEAD_MAX : 16384},
    };
    if (nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, both, sizeof both / sizeof both[0]) != 0)
        return -ENOMEM;
    return nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW) ? -ENOMEM : 0;
}

int h2_begin(struct h2 *h2, struct engine *e, const struct h2_use *use)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    *h2 = (struct h2){.engine = e, .use = use};
    list_init(&h2->streams);
    list_init(&h2->gone);
    int failed = nghttp2_session_callbacks_new(&callbacks) | nghttp2_option_new(&option);
    if (!failed) {
        h2_listen(callbacks);
        nghttp2_option_set_no_auto_window_update(option, 1);
        failed = use->server ? nghttp2_session_server_new2(&h2->session, callbacks, h2, option)
                             : nghttp2_session_client_new2(&h2->session, callbacks, h2, option);
    }
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    if (!failed && announce(h2) == 0)
        return 0;
    nghttp2_session_del(h2->session); /* NULL is fine */
    h2->session = NULL;
    return -ENOMEM;
}

void h2_end(struct h2 *h2, int error)
{
    while (!list_empty(&h2->streams)) {
        struct stream *st = container_of(h2->streams.next, struct stream, all);
        stream_break(h2->engine, st, error);
        stream_unheld(h2->engine, st);
    }
    nghttp2_session_del(h2->session);
    h2->session = NULL;
}

int h2_feed(struct h2 *h2, const uint8_t *bytes, size_t length)
{
    ssize_t got = nghttp2_session_mem_recv(h2->session, bytes, length);
    if (got >= 0 && nghttp2_session_want_write(h2->session))
        h2->use->wake(h2->engine, h2);
    return got < 0 ? -EPROTO : 0;
}

bool h2_wants_to_pack(const struct h2 *h2)
{
    return nghttp2_session_want_write(h2->session);
}

ssize_t h2_pack(struct h2 *h2, uint8_t *to, uint32_t room)
{
    h2->to = to;
    h2->room = room;
    h2->packed = 0;
    int failed = nghttp2_session_send(h2->session);
    h2->to = NULL;
    return failed && failed != NGHTTP2_ERR_WOULDBLOCK ? -EPROTO : (ssize_t)h2->packed;
}

/* ---- streams ---- */

int h2_request(struct stream *st, const nghttp2_nv *fields, size_t count)
{
    struct h2 *h2 = st->h2;
    nghttp2_data_provider body = {.source.ptr = st, .read_callback = h2_read};
    int32_t id = nghttp2_submit_request(h2->session, NULL, fields, count, &body, st);
    if (id < 0)
        return -ENOMEM;
    st->id = id;
    h2->use->wake(h2->engine, h2);
    return 0;
}

void h2_respond(struct stream *st, uint16_t status, bool body)
{
    struct h2 *h2 = st->h2;
    struct engine *e = h2->engine;
    char text[8];
    snprintf(text, sizeof text, "%u", status);
    const nghttp2_nv field = {(uint8_t *)":status", (uint8_t *)text, 7, 3, NGHTTP2_NV_FLAG_NONE};
    nghttp2_data_provider bytes = {.source.ptr = st, .read_callback = h2_read};
    st->refusal = 0;
    if (nghttp2_submit_response(h2->session, st->id, &field, 1, body ? &bytes : NULL) != 0) {
        COUNT(e, no_memory);
        nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_INTERNAL_ERROR);
    }
    h2->use->wake(h2->engine, h2);
}

uint32_t h2_streams_max(const struct h2 *h2)
{
    return nghttp2_session_get_remote_settings(h2->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
}

void h2_ping(struct h2 *h2)
{
    nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL);
    h2->use->wake(h2->engine, h2);
}

void h2_goodbye(struct h2 *h2)
{
    if (h2->went_away)
        return;
    h2->went_away = true;
    if (!h2->use->server) { /* nobody opens streams to us */
        h2_last_word(h2);
        return;
    }
    nghttp2_submit_shutdown_notice(h2->session);
    h2->use->wake(h2->engine, h2);
}

void h2_last_word(struct h2 *h2)
{
    if (h2->said_goodbye)
        return;
    h2->said_goodbye = true;
    nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(h2->session),
                          NGHTTP2_NO_ERROR, NULL, 0);
    h2->use->wake(h2->engine, h2);
}

void h2_sweep(struct h2 *h2, uint64_t older_ns)
{
    struct engine *e = h2->engine;
    for (struct list *at = h2->gone.next; at != &h2->gone; at = at->next) {
        struct stream *st = container_of(at, struct stream, gone);
        if (st->left_ns >= older_ns)
            return;
        COUNT(e, h2_swept);
        st->left_ns = e->now; /* if it is still there after the next time */
        nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_CANCEL);
        h2->use->wake(e, h2);
    }
}

void h2_credit(struct stream *st, uint32_t bytes)
{
    struct h2 *h2 = st->h2;
    if (st->closed)
        return;
    nghttp2_session_consume_stream(h2->session, st->id, bytes);
    if (nghttp2_session_want_write(h2->session))
        h2->use->wake(h2->engine, h2);
}

void h2_wake(struct stream *st)
{
    struct h2 *h2 = st->h2;
    if (st->id == 0)
        return;
    if (st->deferred && !st->closed) {
        st->deferred = false;
        nghttp2_session_resume_data(h2->session, st->id);
    }
    h2->use->wake(h2->engine, h2);
}

void h2_leave(struct engine *e, struct stream *st, bool reset)
{
    struct h2 *h2 = st->h2;
    if (st->id == 0) {
        stream_unheld(e, st);
    } else if (st->refusal) {
        h2_respond(st, st->refusal, false);
    } else if (reset || st->broken || !st->open) {
        nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_CANCEL);
        h2->use->wake(e, h2);
    } else {
        h2_wake(st);
    }
}
