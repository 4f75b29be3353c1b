/* The first bytes of a client: what do they speak? Pure, allocates nothing, may be asked again with more bytes. */
#ifndef SEINE_DETECT_H
#define SEINE_DETECT_H

#include <stddef.h>
#include <stdint.h>

enum detected {
    DETECTED_MORE,  /* could still become one of the others */
    DETECTED_OTHER,
    DETECTED_HTTP1, /* a request line with "HTTP/1.": good or bad, it is for an HTTP parser to say */
    DETECTED_HTTP2, /* the prior-knowledge preface, RFC 9113 3.4 */
    DETECTED_TLS,   /* a ClientHello's record */
};

enum detected detect(const uint8_t *bytes, size_t length);

/* The host_name of a ClientHello's server_name extension (RFC 6066 3), copied with a final NUL.
 * The hello may be spread over up to 32 records and have 16 KiB.
 * 1: found; 0: there is none; -1: needs more bytes; -2: it is no hello, or beyond those bounds. */
int detect_sni(const uint8_t *bytes, size_t length, char *name, size_t capacity);

#endif
