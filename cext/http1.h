/* HTTP/1 heads and chunked bodies for a proxy that forwards the very bytes it has judged (RFC 9112, RFC 9110).
 *
 * A parser here is given all bytes of the message so far and answers: > 0 done, that many bytes are the head; 0 it needs
 * more; < 0 refused, the negated enum http1_reason. It allocates nothing, does no I/O, keeps all state in the caller's
 * struct and reads no byte beyond those given. How the bytes were cut into calls never changes an answer, and no byte is
 * looked at twice for it: feeding one byte at a time is linear.
 * Rules:
 *  - strict: what two servers could read in two ways is refused, also where RFC 9112 lets a recipient be lenient;
 *  - transparent: any token is a method, and what is accepted is forwarded unchanged but for the `omit` ranges;
 *  - everything has a limit. */
#ifndef SEINE_HTTP1_H
#define SEINE_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP1_HEAD_MAX 65472     /* 64 KiB less room for the header of the block that holds it; fits 16 bits */
#define HTTP1_LINE_MAX 16384     /* without CR LF: RFC 9112 3 asks for 8000 at least */
#define HTTP1_FIELDS_MAX 100     /* Envoy's, HAProxy's and hyper's number */
#define HTTP1_METHOD_MAX 32      /* as detect.c has it; the longest registered has 17 */
#define HTTP1_NOMINATED_MAX 16   /* names in Connection fields, without those known here */
#define HTTP1_OMIT_MAX 16        /* ranges after merging */
#define HTTP1_EXTENSION_MAX 256  /* bytes of extensions of one chunk; nobody is known to use any */
#define HTTP1_TRAILERS_MAX 16384 /* bytes, not counting LF */

/* Why a message is refused: name (also the counter's label), status for the client when its request has it. */
#define HTTP1_REASONS(X) \
    /* lines */ \
    X(control_byte, 400) \
    X(bare_cr, 400) \
    X(bare_lf, 400) \
    X(line_too_long, 431) \
    X(head_too_long, 431) \
    X(too_many_fields, 431) \
    /* the first line */ \
    X(request_line, 400)            /* not method SP target SP version */ \
    X(method, 400)                  /* not a token, or longer than HTTP1_METHOD_MAX */ \
    X(target, 400)                  /* a form not meant for the method, a fragment, a byte no URI has */ \
    X(target_too_long, 414)         /* a request line longer than HTTP1_LINE_MAX */ \
    X(version_malformed, 400)       /* also HTTP/0.9's absence of one, and lower case */ \
    X(version_unsupported, 505)     /* other than 1.0 and 1.1 */ \
    X(status_line, 400) \
    /* fields */ \
    X(field_name, 400)              /* not a token followed by a colon */ \
    X(folded_line, 400)             /* begins with white space */ \
    X(underscore_name, 400)         /* Content_Length, Transfer_Encoding: the same as with "-" for CGI-like servers */ \
    X(host_missing, 400) \
    X(host_duplicate, 400) \
    X(host_invalid, 400)            /* not name or address [":" port]; user information */ \
    X(host_mismatch, 400)           /* not the target's authority */ \
    X(length_invalid, 400)          /* not a plain decimal number below 2^63 without leading zeros */ \
    X(length_duplicate, 400)        /* also of the same value */ \
    X(length_and_coding, 400) \
    X(coding_malformed, 400)        /* Transfer-Encoding: not a list of codings, or chunked is not its end, or two */ \
    X(coding_unknown, 501)          /* other than chunked alone */ \
    X(coding_on_http10, 400) \
    X(connection_malformed, 400) \
    X(connection_nominates, 400)    /* a field that is not the connection's to remove */ \
    X(connection_too_many, 431)     /* more than HTTP1_NOMINATED_MAX or HTTP1_OMIT_MAX */ \
    X(upgrade_malformed, 400) \
    X(expectation, 417)             /* other than 100-continue, once */ \
    X(connect_body, 400)            /* CONNECT with a framed body */ \
    /* responses only */ \
    X(unexpected_body, 400)         /* framing for a body where there is none: 1xx, 204, 2xx to CONNECT */ \
    X(unasked_upgrade, 400)         /* 101 and no upgrade was requested */ \
    /* chunked bodies */ \
    X(chunk_size, 400)              /* not hexadecimal digits below 2^63 */ \
    X(chunk_extension, 400) \
    X(chunk_extension_too_long, 400) \
    X(chunk_end, 400)               /* data not followed by CR LF */ \
    X(trailer_forbidden, 400)       /* a field that says where or how the message goes, or who asks */ \
    X(trailers_too_long, 431)

#define HTTP1_REASON_ENUM(name, status) HTTP1_##name,
enum http1_reason { HTTP1_ACCEPTED, HTTP1_REASONS(HTTP1_REASON_ENUM) HTTP1_REASON_COUNT };

enum http1_side { HTTP1_REQUEST, HTTP1_RESPONSE };

/* A reason in words for counters (NULL: no such), in a status for the client (a bad response is 502), in Envoy's flag
 * (DPE or UPE). After a bad request the connection must close: nobody knows where the next one begins. */
const char *http1_reason_name(unsigned reason);
unsigned http1_reason_status(unsigned reason, enum http1_side);
const char *http1_reason_flag(enum http1_side);

enum http1_method { HTTP1_OTHER, HTTP1_GET, HTTP1_HEAD, HTTP1_OPTIONS, HTTP1_CONNECT };

enum http1_framing {
    HTTP1_NO_BODY,
    HTTP1_LENGTH,      /* content_length bytes, at least 1 */
    HTTP1_CHUNKED,     /* see http1_chunked */
    HTTP1_UNTIL_CLOSE, /* responses only */
    HTTP1_TUNNEL,      /* responses only: 101, or 2xx to CONNECT; both directions are opaque from here on */
};

/* Fields known here, by length; none of them is allowed as a trailer. */
#define HTTP1_HOP 1   /* of this connection: left out */
#define HTTP1_FIXED 2 /* Connection must not nominate it: it says where, how or for whom the message goes */
#define HTTP1_NAMES(X) \
    X(TE, "te", HTTP1_HOP) /* but for `trailers`, which all in between understand */ \
    X(HOST, "host", HTTP1_FIXED) \
    X(COOKIE, "cookie", HTTP1_FIXED) \
    X(EXPECT, "expect", HTTP1_FIXED) \
    X(TRAILER, "trailer", 0) \
    X(UPGRADE, "upgrade", HTTP1_HOP) /* unless it is to be tunnelled */ \
    X(FORWARDED, "forwarded", HTTP1_FIXED) \
    X(CONNECTION, "connection", HTTP1_HOP | HTTP1_FIXED) \
    X(KEEP_ALIVE, "keep-alive", HTTP1_HOP) \
    X(SET_COOKIE, "set-cookie", HTTP1_FIXED) \
    X(CONTENT_TYPE, "content-type", HTTP1_FIXED) \
    X(AUTHORIZATION, "authorization", HTTP1_FIXED) \
    X(CACHE_CONTROL, "cache-control", HTTP1_FIXED) \
    X(CONTENT_RANGE, "content-range", HTTP1_FIXED) \
    X(CONTENT_LENGTH, "content-length", HTTP1_FIXED) \
    X(HTTP2_SETTINGS, "http2-settings", HTTP1_HOP) \
    X(X_FORWARDED_FOR, "x-forwarded-for", HTTP1_FIXED) \
    X(CONTENT_ENCODING, "content-encoding", HTTP1_FIXED) \
    X(PROXY_CONNECTION, "proxy-connection", HTTP1_HOP) \
    X(X_FORWARDED_HOST, "x-forwarded-host", HTTP1_FIXED) \
    X(TRANSFER_ENCODING, "transfer-encoding", HTTP1_FIXED) \
    X(X_FORWARDED_PROTO, "x-forwarded-proto", HTTP1_FIXED) \
    X(PROXY_AUTHORIZATION, "proxy-authorization", HTTP1_FIXED)

#define HTTP1_NAME_ENUM(id, text, rules) HTTP1_NAME_##id,
enum http1_name { HTTP1_NAME_UNKNOWN, HTTP1_NAMES(HTTP1_NAME_ENUM) HTTP1_NAME_COUNT };

/* Bytes of the head, counted from its first. The head may be moved between calls. */
struct http1_slice {
    uint16_t at, length;
};

struct http1_field {
    struct http1_slice name, value; /* value: without the white space around it */
    uint16_t known;                 /* enum http1_name */
};

/* One head under way, and when it is complete what it says. Made by http1_start; 1.2 KiB, of which it clears 64 bytes. */
struct http1_head {
    /* Progress, of no interest to callers. */
    uint32_t seen;    /* bit set: enum http1_name, and what Connection and Upgrade said */
    uint16_t line;    /* where the current line begins */
    uint16_t scanned; /* bytes of it known to be fine */
    uint8_t side;     /* enum http1_side */
    bool begun;       /* the first line is behind us */
    uint8_t nominated_count;

    /* Valid when the head is complete. */
    uint8_t minor;        /* of the version: 0 or 1. The head is forwarded with it: add `Connection: keep-alive` to a
                           * 1.0 request or response if the connection is to live on */
    uint8_t method;       /* enum http1_method; requests */
    uint16_t status;      /* responses: 100 to 999 */
    uint8_t framing;      /* enum http1_framing */
    bool keep_alive;      /* the sender wants, and the framing allows, another message after this one */
    bool expect_continue; /* requests: the body is held back until a 100 or a final response */
    bool upgrade;         /* requests: Upgrade is kept, add `Connection: upgrade`; a 101 makes it a tunnel. Bytes after
                           * this request wait for the response: they are the tunnel's, or the next request.
                           * responses: Upgrade is kept (101, 426), add `Connection: upgrade` */
    bool interim;         /* responses: 1xx but 101; another head follows. Bound their number; not for a 1.0 client */
    uint8_t omit_count;
    uint8_t field_count;
    uint64_t content_length;
    struct http1_slice verb;       /* the method as it is written */
    struct http1_slice target;     /* as it is written */
    struct http1_slice path;       /* of the target, without query; empty: an absolute-form without one, "/"; "*" */
    struct http1_slice host;       /* with port; of Host, else of the target; empty: a 1.0 request without */
    struct http1_slice upgrade_to; /* the Upgrade field's value when `upgrade` */
    struct http1_slice omit[HTTP1_OMIT_MAX]; /* what not to forward: in order, not adjacent */
    struct http1_slice nominated[HTTP1_NOMINATED_MAX];
    struct http1_field fields[HTTP1_FIELDS_MAX];
};

/* Before the first byte of each message. */
void http1_start(struct http1_head *);

/* A request's head. One empty line before it is allowed (RFC 9112 2.2), counted in the answer and left out by `omit`:
 * a lone CR LF on an idle connection is no request begun. */
int http1_request(struct http1_head *, const uint8_t *bytes, size_t length);

/* A response's head; `method` and `upgrade` are those of its request. */
int http1_response(struct http1_head *, const uint8_t *bytes, size_t length, enum http1_method method, bool upgrade);

/* Takes the `omit` ranges out of the complete head at `bytes` by moving what stands before them towards its end, so
 * that the body still follows. Answers how many bytes the head became shorter: it now begins there. All slices are void
 * after it, except when the answer is 0. */
size_t http1_strip(const struct http1_head *, uint8_t *bytes);

/* A chunked body under way; starts as zeroes. */
struct http1_chunked {
    uint64_t left;   /* of the chunk's size, while it is read, or of its data */
    uint32_t spent;  /* of the limit that applies: digits, extension, trailers */
    uint8_t state;
    bool done;       /* the message ends with the last byte consumed */
    uint8_t name_length; /* of a trailer's name, as much of it as fits */
    uint8_t name[20];
};

/* Judges the next bytes. Answers how many of them belong to the message: all, or fewer when it is done; they may be
 * forwarded as they are. < 0: refused, and none of these may be forwarded. */
ptrdiff_t http1_chunked(struct http1_chunked *, const uint8_t *bytes, size_t length);

#endif
