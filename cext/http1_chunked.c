/* Chunked bodies (RFC 9112 7.1) as a machine of bytes: data is skipped at once, all else judged byte by byte.
 *
 * Stricter than the grammar: no blanks around sizes and extensions, no known field as a trailer. */
#include "http1_parts.h"

#define DIGITS_MAX 16

enum state {
    SIZE,
    EXTENSION_NAME, /* at least one byte of it */
    EXTENSION_REST,
    VALUE,          /* at least one byte of it, or a quote */
    VALUE_REST,
    QUOTED,
    ESCAPED,
    VALUE_END,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER,        /* the first byte of its line */
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    LAST_LF,
};

static int go(struct http1_chunked *body, enum state state)
{
    body->state = (uint8_t)state;
    return 0;
}

static int misplaced(uint8_t byte, enum http1_reason reason)
{
    if (byte == '\n')
        return refuse(HTTP1_bare_lf);
    return refuse(byte_control(byte) && byte != '\r' ? HTTP1_control_byte : reason);
}

/* What may follow a size or a complete extension. */
static int after_size(struct http1_chunked *body, uint8_t byte, enum http1_reason reason)
{
    if (byte == '\r')
        return go(body, SIZE_LF);
    if (byte == ';')
        return go(body, EXTENSION_NAME);
    return misplaced(byte, reason);
}

static int size(struct http1_chunked *body, uint8_t byte)
{
    if (byte_is(byte, BYTE_HEX)) {
        uint8_t digit = byte_digit(byte) ? byte - '0' : (byte | 0x20) - 'a' + 10;
        if (body->left > INT64_MAX >> 4 || ++body->spent > DIGITS_MAX)
            return refuse(HTTP1_chunk_size);
        body->left = body->left << 4 | digit;
        return 0;
    }
    if (body->spent == 0)
        return misplaced(byte, HTTP1_chunk_size);
    body->spent = 0;
    return after_size(body, byte, HTTP1_chunk_size);
}

/* *( ";" token [ "=" ( token | quoted-string ) ] ) */
static int extension(struct http1_chunked *body, uint8_t byte)
{
    bool token = byte_is(byte, BYTE_TOKEN);
    if (++body->spent > HTTP1_EXTENSION_MAX)
        return refuse(HTTP1_chunk_extension_too_long);
    switch (body->state) {
    case EXTENSION_NAME:
        return token ? go(body, EXTENSION_REST) : misplaced(byte, HTTP1_chunk_extension);
    case EXTENSION_REST:
        if (byte == '=')
            return go(body, VALUE);
        return token ? 0 : after_size(body, byte, HTTP1_chunk_extension);
    case VALUE:
        if (byte == '"')
            return go(body, QUOTED);
        return token ? go(body, VALUE_REST) : misplaced(byte, HTTP1_chunk_extension);
    case VALUE_REST:
        return token ? 0 : after_size(body, byte, HTTP1_chunk_extension);
    case QUOTED:
    case ESCAPED:
        if (byte_control(byte))
            return misplaced(byte, HTTP1_chunk_extension);
        if (body->state == ESCAPED)
            return go(body, QUOTED);
        return byte == '"' ? go(body, VALUE_END) : go(body, byte == '\\' ? ESCAPED : QUOTED);
    default:
        return after_size(body, byte, HTTP1_chunk_extension);
    }
}

static int trailer_name(struct http1_chunked *body, uint8_t byte)
{
    if (byte_is(byte, BYTE_TOKEN)) {
        if (body->name_length < sizeof body->name)
            body->name[body->name_length++] = byte;
        return go(body, TRAILER_NAME);
    }
    if (byte != ':' || body->name_length == 0)
        return misplaced(byte, HTTP1_field_name);
    unsigned known = http1_name(body->name, body->name_length);
    body->name_length = 0;
    if (known)
        return refuse(known == HTTP1_NAME_COUNT ? HTTP1_underscore_name : HTTP1_trailer_forbidden);
    return go(body, TRAILER_VALUE);
}

static int trailer(struct http1_chunked *body, uint8_t byte)
{
    if (++body->spent > HTTP1_TRAILERS_MAX)
        return refuse(HTTP1_trailers_too_long);
    switch (body->state) {
    case TRAILER:
        if (byte == '\r')
            return go(body, LAST_LF);
        return byte_blank(byte) ? refuse(HTTP1_folded_line) : trailer_name(body, byte);
    case TRAILER_NAME:
        return trailer_name(body, byte);
    default:
        if (byte == '\r')
            return go(body, TRAILER_LF);
        return byte_control(byte) ? misplaced(byte, HTTP1_control_byte) : 0;
    }
}

static int line_feed(struct http1_chunked *body, uint8_t byte)
{
    if (byte != '\n')
        return refuse(body->state == DATA_LF ? HTTP1_chunk_end : HTTP1_bare_cr);
    switch (body->state) {
    case SIZE_LF:
        body->spent = 0;
        return go(body, body->left ? DATA : TRAILER);
    case DATA_LF:
        return go(body, SIZE);
    case LAST_LF:
        body->done = true;
        return 0;
    default:
        return go(body, TRAILER);
    }
}

static int step(struct http1_chunked *body, uint8_t byte)
{
    switch (body->state) {
    case SIZE:
        return size(body, byte);
    case DATA_CR:
        return byte == '\r' ? go(body, DATA_LF) : refuse(HTTP1_chunk_end);
    case SIZE_LF:
    case DATA_LF:
    case TRAILER_LF:
    case LAST_LF:
        return line_feed(body, byte);
    case TRAILER:
    case TRAILER_NAME:
    case TRAILER_VALUE:
        return trailer(body, byte);
    default:
        return extension(body, byte);
    }
}

ptrdiff_t http1_chunked(struct http1_chunked *body, const uint8_t *bytes, size_t length)
{
    size_t at = 0;
    while (at < length && !body->done) {
        if (body->state != DATA) {
            int refused = step(body, bytes[at++]);
            if (refused)
                return refused;
            continue;
        }
        size_t some = length - at < body->left ? length - at : (size_t)body->left;
        at += some;
        body->left -= some;
        if (body->left == 0)
            go(body, DATA_CR);
    }
    return (ptrdiff_t)at;
}
