/* A stream of an HTTP/2 connection, as what a leg reads from and writes to in place of a socket.
 *
 * What the peer sent waits in `in` until the leg takes it: the blocks themselves change hands. What the leg wrote waits in
 * `out` until it is framed. Invariants:
 *  - a leg is told later, from streams_tell, as epoll tells of sockets; nothing of a session runs inside nghttp2;
 *  - credit: the connection's is given when bytes arrive, the stream's when the leg takes them, so that who reads slowly
 *    holds up nobody else; what a connection holds in all is limited (h2_hold), beside all blocks (buffer.c);
 *  - a stream outlives its leg until its last words are sent, and its connection as long as its leg holds it. */
#ifndef SEINE_STREAM_H
#define SEINE_STREAM_H

#include "core.h"

struct h2;

struct stream {
    struct h2 *h2;    /* NULL: the connection is gone */
    struct leg *leg;  /* NULL: nobody reads or writes any more */
    void *head;       /* of its request, while that is being read */
    struct list all;  /* of its connection */
    struct list told; /* among those with something to tell their legs */
    struct list gone; /* of its connection, among those that no leg holds, oldest first */
    struct block *in, *in_last;
    struct block *out;
    uint32_t in_bytes;
    uint64_t left_ns;  /* when its leg left it */
    uint32_t wanted;   /* by its leg, as of epoll */
    uint32_t events;   /* to be told */
    int32_t id;        /* 0: not opened yet */
    int error;         /* errno: why it was refused or broke */
    uint16_t refusal;  /* the status that says so, when it ends unanswered; 0: not ours to answer */
    bool open;         /* bytes may flow */
    bool in_end;       /* the peer sends nothing more */
    bool out_end;      /* nor will the leg write more */
    bool broken;       /* reset by the peer, refused, or its connection is gone */
    bool closed;       /* for nghttp2 */
    bool full;         /* a write came short */
    bool deferred;     /* nghttp2 does not ask for data before it is told */
};

/* For the connection. */
struct stream *stream_new(struct h2 *); /* NULL: no memory */
void stream_open(struct engine *, struct stream *);
bool stream_receive(struct engine *, struct stream *, const uint8_t *, size_t); /* false: no block for it */
void stream_receive_end(struct engine *, struct stream *);
void stream_break(struct engine *, struct stream *, int error);
void stream_unheld(struct engine *, struct stream *); /* nghttp2 has closed it, or its connection is gone: freed, if no leg has it */
void stream_sent(struct engine *, struct stream *, uint32_t bytes); /* the first of `out` are framed */

/* For legs; leg.c says what they mean. */
void stream_hold(struct stream *, struct leg *);
void stream_want(struct engine *, struct stream *, uint32_t wanted);
void stream_fill(struct engine *, struct stream *, struct leg *);
ssize_t stream_write(struct engine *, struct stream *, const uint8_t *, size_t);
bool stream_adopt(struct engine *, struct stream *, struct block *); /* false: it has one, or takes nothing more */
ssize_t stream_discard(struct engine *, struct stream *);
void stream_shut(struct engine *, struct stream *);
void stream_leave(struct engine *, struct stream *, bool reset);

/* Tells legs what happened since; answers how many. */
uint32_t streams_tell(struct engine *);

#endif
