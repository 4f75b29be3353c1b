/* What the files of the HTTP/1 exchange share.
 *
 * An *exchange* is one request and its response. It exists from the request's first byte to the response's last; a
 * session has one at a time, so that what a client pipelines waits in the client's block. Each direction is a *lane*:
 * bytes are read into the sending leg's block, judged there, and sent from there.
 * Invariants:
 *  - nothing is sent that has not been judged, and nothing is changed in between but what the connection's own fields
 *    demand (head_edit);
 *  - a response that has begun is finished or the client's connection is reset: it never looks complete when it is not;
 *  - an upstream goes back to the pool only when both messages on it have ended exactly where they should.
 *
 *   HEAD -> DIALLING -> RELAY -> (next) | closing | opaque
 *   request.c  dial.c   relay.c, response.c          reply.c: what we say ourselves */
#ifndef SEINE_EXCHANGE_H
#define SEINE_EXCHANGE_H

#include "core.h"
#include "http1.h"

enum stage { STAGE_HEAD, STAGE_DIALLING, STAGE_RELAY };

/* What a step left behind: nothing more can be done now; more of the same; another stage or no exchange at all, so look
 * again at the session; a session that has ended or is not ours now. */
enum step { STEP_WAIT, STEP_GO, STEP_NEXT, STEP_OVER };

struct lane {
    uint64_t left; /* of a body of known length: not read yet */
    struct http1_chunked chunked;
    uint64_t body_bytes; /* sent */
    uint64_t sent;      /* heads too */
    uint32_t at;        /* in the block: the next byte to send */
    uint32_t cleared;   /* in the block: bytes before it are judged and of this message */
    uint32_t head_left; /* of the bytes to send, how many are a head's */
    uint8_t framing;    /* enum http1_framing */
    bool done;          /* its last byte is cleared */
};

struct exchange {
    struct exchange *next; /* among the free */
    struct http1_head *partial; /* of a head that comes in pieces */
    struct lane request, response;
    uint64_t began_ns; /* the request's first byte */
    uint64_t sent_ns;  /* the request's first byte, to the server */
    uint64_t over_ns;  /* the response's last byte; 0: not yet */
    uint32_t interims;
    uint16_t code;     /* of the final response; 0: not yet */
    uint16_t head_bytes; /* of the request, as forwarded */
    uint8_t stage;
    uint8_t method;
    uint8_t minor;
    bool keep_alive;  /* the client wants, and the request allows, another one */
    bool upgrade;
    bool expects;     /* it holds its body back for a 100 */
    bool idempotent;
    bool held;        /* the block still has the whole request so far */
    bool repeated;
    bool answering;   /* bytes of the final response are on their way to the client */
    bool persist;     /* the client was told that its connection lives on */
    bool reusable;    /* the server's response allows another exchange */
};

/* exchange.c */
void exchange_end(struct engine *, struct session *, enum flag); /* counts it, frees it */
void exchange_unread(struct engine *, struct session *, uint16_t code, enum flag); /* one that never was */
enum step exchange_next(struct engine *, struct session *, bool persist); /* after exchange_end */
enum step client_gone(struct engine *, struct session *);

/* request.c */
enum step request_head(struct engine *, struct session *);
enum step request_route(struct engine *, struct session *);
enum step request_refuse(struct engine *, struct session *, int reason);
bool request_blank(const struct session *); /* nothing but an empty line has come */

/* response.c */
enum step response_relay(struct engine *, struct session *);

/* relay.c */
enum step request_relay(struct engine *, struct session *);
void lane_open(struct lane *, const struct http1_head *);
int lane_judge(struct lane *, const struct block *); /* what is in the block; < 0: refused */
int lane_more(struct engine *, struct lane *, struct leg *from); /* reads and judges. 1: some, 0: none now, < 0: refused */
bool lane_send(struct engine *, struct session *, struct lane *, struct leg *from, struct leg *to); /* all: true */
void request_release(struct engine *, struct session *); /* the request cannot be repeated any more */
void request_rewind(struct session *); /* to its first byte, which is still there */

/* Takes out of the complete head at block->start what is of its connection only, and adds a field (with its CR LF, or
 * empty). Answers the head's new length, at the new block->start. */
uint32_t head_edit(struct block *, const struct http1_head *, uint32_t length, const char *field);

/* Keeps a head under way that was read in the engine's scratch. false: no memory. */
bool head_keep(struct exchange *, const struct http1_head *);
void head_forget(struct exchange *);

/* reply.c: what we say ourselves, instead of a server. */
#define REPLIES(X) /* name, status, flag, close, sentence */ \
    X(no_endpoint, 503, UH, false, "No endpoint of this service is ready.") \
    X(connect_failed, 503, UF, false, "No endpoint of this service could be connected to.") \
    X(server_closed, 503, UC, false, "The server closed the connection before it answered.") \
    X(authz_denied, 403, UAEX, false, "A policy of the mesh does not allow this request.") \
    X(identity_denied, 403, UAEX, false, "The mesh does not believe the client's or the server's identity any more.") \
    X(path_ambiguous, 400, DPE, true, "The path or host could be read in two ways, and a policy looks at it.") \
    X(overloaded, 503, UO, true, "Too much is under way here; try again later.") \
    X(head_timeout, 408, SI, true, "The request's head took too long.") \
    X(body_timeout, 408, SI, true, "The request's body took too long.") \
    X(server_timeout, 504, UT, true, "The server took too long to answer.") \
    X(too_many_interim, 502, UPE, false, "The server sent too many interim responses.")
#define REPLY_ENUM(name, status, flag, close, sentence) REPLY_##name,
enum reply { REPLIES(REPLY_ENUM) REPLY_COUNT };

enum step reply(struct engine *, struct session *, enum reply);
enum step reply_bad(struct engine *, struct session *, int reason, enum http1_side);
enum step linger_begin(struct engine *, struct session *);
enum step linger(struct engine *, struct session *);

#endif
