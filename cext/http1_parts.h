/* What the files of the HTTP/1 parser share. Functions that judge answer 0 or a negated enum http1_reason. */
#ifndef SEINE_HTTP1_PARTS_H
#define SEINE_HTTP1_PARTS_H

#include "http1.h"
#include "http1_bytes.h"

/* Bits of http1_head.seen above those of the names. */
#define SEEN(name) (1u << HTTP1_NAME_##name)
#define SEEN_CLOSE (1u << 27)      /* Connection: close */
#define SEEN_KEEP_ALIVE (1u << 28) /* Connection: keep-alive */
#define SEEN_SWITCH (1u << 29)     /* Connection: upgrade */
#define SEEN_OTHER_HTTP (1u << 30) /* Upgrade to another version of HTTP, which would hide requests from us */
_Static_assert(HTTP1_NAME_COUNT <= 27, "names and bits share a word");

static inline int refuse(enum http1_reason reason)
{
    return -(int)reason;
}

static inline struct http1_slice slice(size_t from, size_t to)
{
    return (struct http1_slice){(uint16_t)from, (uint16_t)(to - from)};
}

/* http1_names.c: enum http1_name; HTTP1_NAME_COUNT for a framing field's name with "_" in place of "-". */
#define HTTP1_KNOWN_MAX 19 /* bytes of the longest name */
unsigned http1_name(const uint8_t *name, size_t length);
unsigned http1_name_rules(unsigned name);

/* http1_target.c: the target in its four forms (RFC 9112 3.2), and Host against it. */
int http1_target(struct http1_head *, const uint8_t *bytes);
int http1_host(struct http1_head *, const uint8_t *bytes, struct http1_slice value);

/* http1_field.c: one line of the head, and what its value means for the message. */
int http1_field(struct http1_head *, const uint8_t *bytes, size_t begin, size_t end);

/* http1_omit.c: fills `omit` of a complete head of `length` bytes. */
int http1_omit(struct http1_head *, const uint8_t *bytes, size_t length);

#endif
