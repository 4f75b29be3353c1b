/* nghttp2's callbacks: frames that come to streams, and streams' bytes to frames that go. The contract is in h2.h. */
#include <errno.h>
#include <string.h>

#include "h2.h"

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

ssize_t h2_read(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length, uint32_t *flags,
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

void h2_listen(nghttp2_session_callbacks *to)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(to, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(to, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(to, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(to, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(to, on_close);
    nghttp2_session_callbacks_set_send_callback(to, on_send);
    nghttp2_session_callbacks_set_send_data_callback(to, on_send_data);
}
