/* nghttp2's callbacks, and what streams and their connection ask of it. The contract is in h2.h. */
#include "h2.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define STREAM_WINDOW (4 << 20)
#define CONNECTION_WINDOW (16 << 20)
#define FRAME_MAX (1 << 20)
#define SERVER_STREAMS_MAX 200
#define RESETS_FREE 100 /* a client may change its mind so often before we look at the share */

/* ---- what comes ---- */

static struct stream *stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h2 = user;
    struct engine *e = h2->engine;
    h2->head_bytes = 0;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    struct stream *st = stream_new(h2);
    if (!st) {
        COUNT(e, no_memory);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    st->id = frame->hd.stream_id;
    list_push(&h2->gone, &st->gone); /* until a leg holds it */
    st->left_ns = e->now;
    h2->opened++;
    nghttp2_session_set_stream_user_data(session, st->id, st);
    return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_length,
                     const uint8_t *value, size_t value_length, uint8_t flags, void *user)
{
    struct h2 *h2 = user;
    struct engine *e = h2->engine;
    struct stream *st = stream_of(session, frame->hd.stream_id);
    (void)flags;
    h2->head_bytes += (uint32_t)(name_length + value_length) + 32; /* RFC 9113 6.5.2 counts so */
    if (h2->head_bytes > H2_HEAD_MAX) {
        COUNT(e, h2_head_too_large);
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    if (!st || h2->use->field(e, st, name, name_length, value, value_length))
        return 0;
    COUNT(e, no_memory);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static void on_reset(struct h2 *h2)
{
    struct engine *e = h2->engine;
    h2->resets++;
    if (h2->resets <= RESETS_FREE || h2->resets * 2 < h2->opened || h2->abused || !h2->use->server)
        return;
    COUNT(e, h2_reset_flood);
    h2->abused = true;
    nghttp2_session_terminate_session(h2->session, NGHTTP2_ENHANCE_YOUR_CALM);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h2 = user;
    struct stream *st = frame->hd.stream_id ? stream_of(session, frame->hd.stream_id) : NULL;
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (st && end)
            stream_receive_end(h2->engine, st);
        if (st && frame->headers.cat != NGHTTP2_HCAT_HEADERS)
            h2->use->head(h2->engine, st);
        break;
    case NGHTTP2_DATA:
        if (st && end)
            stream_receive_end(h2->engine, st);
        break;
    case NGHTTP2_RST_STREAM: on_reset(h2); break;
    case NGHTTP2_GOAWAY: h2->went_away = true; break;
    default: break;
    }
    return 0;
}

static void let_go(struct h2 *h2, struct stream *st)
{
    stream_break(h2->engine, st, ENOBUFS);
    nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* A connection holds too much: whoever holds most of it is not reading. */
static void shed(struct h2 *h2)
{
    struct engine *e = h2->engine;
    struct stream *most = NULL;
    for (struct list *at = h2->streams.next; at != &h2->streams; at = at->next) {
        struct stream *st = container_of(at, struct stream, all);
        if (!st->broken && !st->closed && (!most || st->in_bytes > most->in_bytes))
            most = st;
    }
    COUNT(e, h2_held_limited);
    if (most)
        let_go(h2, most);
}

/* The connection's credit is given at once: who does not read holds up its own stream only. */
static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t length, void *user)
{
    struct h2 *h2 = user;
    struct engine *e = h2->engine;
    struct stream *st = stream_of(session, id);
    (void)flags;
    nghttp2_session_consume_connection(session, length);
    if (st && st->leg && !st->broken) {
        bool fine = stream_receive(e, st, bytes, length);
        if (fine && h2->held > e->config.max_held_bytes)
            shed(h2);
        if (fine)
            return 0;
        COUNT(e, h2_no_buffer);
        let_go(h2, st);
    } else if (st && !st->leg && !st->out && !st->broken) { /* nobody wants it any more, and our last words are said */
        st->broken = true;
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL);
    }
    nghttp2_session_consume_stream(session, id, length);
    return 0;
}

static int error_of(uint32_t code)
{
    switch (code) {
    case NGHTTP2_NO_ERROR: return ECONNRESET; /* where it was not expected */
    case NGHTTP2_REFUSED_STREAM: return ESTALE; /* it was never looked at: another connection may have it */
    case NGHTTP2_ENHANCE_YOUR_CALM: return ENOBUFS;
    default: return ECONNRESET;
    }
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2 *h2 = user;
    struct stream *st = stream_of(session, id);
    if (!st)
        return 0;
    nghttp2_session_set_stream_user_data(session, id, NULL);
    st->closed = true;
    if (code != NGHTTP2_NO_ERROR || !st->in_end)
        stream_break(h2->engine, st, error_of(code));
    stream_unheld(h2->engine, st);
    return 0;
}

/* ---- what goes ---- */

static ssize_t on_send(nghttp2_session *session, const uint8_t *bytes, size_t length, int flags, void *user)
{
    struct h2 *h2 = user;
    (void)session, (void)flags;
    if (length > h2->room)
        return NGHTTP2_ERR_WOULDBLOCK;
    memcpy(h2->to + h2->packed, bytes, length);
    h2->packed += (uint32_t)length;
    h2->room -= (uint32_t)length;
    return (ssize_t)length;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length, uint32_t *flags,
                       nghttp2_data_source *source, void *user)
{
    struct stream *st = source->ptr;
    uint32_t bytes = st->out ? st->out->end - st->out->start : 0;
    (void)session, (void)id, (void)buffer, (void)user;
    if (bytes == 0 && !st->out_end) {
        st->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    if (bytes <= length && st->out_end)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (bytes > 0)
        *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    return (ssize_t)(bytes < length ? bytes : length);
}

static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *header, size_t length,
                        nghttp2_data_source *source, void *user)
{
    struct h2 *h2 = user;
    struct stream *st = source->ptr;
    (void)session, (void)frame;
    if (!st->out || st->out->end - st->out->start < length)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* broken since */
    if (h2->room < 9 + length)
        return NGHTTP2_ERR_WOULDBLOCK;
    memcpy(h2->to + h2->packed, header, 9);
    memcpy(h2->to + h2->packed + 9, st->out->bytes + st->out->start, length);
    h2->packed += 9 + (uint32_t)length;
    h2->room -= 9 + (uint32_t)length;
    stream_sent(h2->engine, st, (uint32_t)length);
    return 0;
}

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

static void set_callbacks(nghttp2_session_callbacks *to)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(to, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(to, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(to, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(to, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(to, on_close);
    nghttp2_session_callbacks_set_send_callback(to, on_send);
    nghttp2_session_callbacks_set_send_data_callback(to, on_send_data);
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
        set_callbacks(callbacks);
        nghttp2_option_set_no_auto_window_update(option, 1);
        failed = use->server ? nghttp2_session_server_new2(&h2->session, callbacks, h2, option)
                             : nghttp2_session_client_new2(&h2->session, callbacks, h2, option);
    }
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    return failed ? -ENOMEM : announce(h2);
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
    nghttp2_data_provider body = {.source.ptr = st, .read_callback = on_read};
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
    nghttp2_data_provider bytes = {.source.ptr = st, .read_callback = on_read};
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
