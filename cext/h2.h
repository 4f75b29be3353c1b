/* HTTP/2 (RFC 9113) on libnghttp2: frames to streams and streams to frames. No socket and no TLS: bytes are fed in and
 * packed out by the connection that owns it. What a request means is its user's business (struct h2_use), so that the
 * tunnel's CONNECT and other uses share it. Settings are those of Istio's ztunnel: a stream may have 4 MiB under way, a
 * connection 16 MiB (equal windows dead-lock who reads two streams in turn).
 * Abuse is bounded: streams by what we announce, header fields by bytes, resets by a share of the streams; nghttp2
 * itself bounds what it has to acknowledge. */
#ifndef SEINE_H2_H
#define SEINE_H2_H

#include <nghttp2/nghttp2.h>

#include "stream.h"

#define H2_HEAD_MAX 65536 /* bytes of names and values of one request or response */
#define H2_PACK_MAX 65536 /* what one TLS write takes; more makes small messages wait behind bulk (proven: 1.1 ms, 1 MiB 7.7) */

struct h2_use {
    bool server;
    bool (*field)(struct engine *, struct stream *, const uint8_t *name, size_t name_length, const uint8_t *value,
                  size_t value_length);                /* false: no memory */
    void (*head)(struct engine *, struct stream *);    /* all fields of a request or response were there */
    void (*wake)(struct engine *, struct h2 *);        /* there is something to pack */
};

struct h2 {
    nghttp2_session *session;
    struct engine *engine;
    const struct h2_use *use;
    struct list streams;
    struct list gone;
    uint32_t stream_count;
    uint64_t held; /* bytes that came and that no leg has taken */
    uint32_t opened, resets; /* by the peer */
    uint32_t head_bytes;     /* of the head that is being read */
    uint8_t *to;             /* while packing */
    uint32_t room, packed;
    bool went_away;          /* either side has said that no new streams are welcome */
    bool said_goodbye;       /* we, and which of the streams under way are the last */
    bool abused;             /* the peer resets too much: no more of it */
};

int h2_begin(struct h2 *, struct engine *, const struct h2_use *); /* 0, or -ENOMEM */
void h2_end(struct h2 *, int error); /* its streams are broken with this error; frees all but the struct */

/* What came: 0, or < 0: the peer broke the protocol (then pack once more: GOAWAY says why). */
int h2_feed(struct h2 *, const uint8_t *, size_t);

/* Frames into `to`, at most `room` bytes; answers how many, < 0: broken. */
ssize_t h2_pack(struct h2 *, uint8_t *to, uint32_t room);
bool h2_wants_to_pack(const struct h2 *);

/* A request of ours, with a body to come; < 0: it cannot be made. */
int h2_request(struct stream *, const nghttp2_nv *, size_t count);
/* The answer to a request; `body`: bytes will follow. */
void h2_respond(struct stream *, uint16_t status, bool body);

uint32_t h2_streams_max(const struct h2 *); /* that the peer allows */
void h2_ping(struct h2 *);
/* No new streams; those under way go on, and those on their way to us too, until the last word (RFC 9113 6.8). */
void h2_goodbye(struct h2 *);
void h2_last_word(struct h2 *); /* a round trip after it, at least */
void h2_sweep(struct h2 *, uint64_t older_ns); /* resets streams that were left before that and are not over */

/* h2_frames.c, for h2.c. */
void h2_listen(nghttp2_session_callbacks *); /* puts all of them in */
ssize_t h2_read(nghttp2_session *, int32_t id, uint8_t *, size_t, uint32_t *flags, nghttp2_data_source *, void *user);

/* For stream.c. */
void h2_credit(struct stream *, uint32_t bytes);
void h2_wake(struct stream *);
void h2_leave(struct engine *, struct stream *, bool reset);

#endif
