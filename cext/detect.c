#include "detect.h"

#include <stdbool.h>
#include <string.h>

#define METHOD_MAX 32
#define HANDSHAKE 22
#define RECORD_MAX 16384 /* RFC 8446 5.1 */
#define RECORDS_MAX 32   /* of one hello: clients that cut theirs, so that nobody reads the name in one, make two to ten */
#define HELLO_MAX 16384  /* real ones have 200 to 2000 bytes */

static const char PREFACE[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
static const char VERSION[] = " HTTP/1.";

static bool starts_alike(const uint8_t *bytes, size_t length, const char *text, size_t text_length)
{
    return memcmp(bytes, text, length < text_length ? length : text_length) == 0;
}

static enum detected detect_tls(const uint8_t *bytes, size_t length)
{
    if (length >= 2 && bytes[1] != 3)
        return DETECTED_OTHER;
    if (length >= 3 && bytes[2] > 4)
        return DETECTED_OTHER;
    if (length < 6)
        return DETECTED_MORE;
    return bytes[5] == 1 ? DETECTED_TLS : DETECTED_OTHER;
}

static bool method_byte(uint8_t byte)
{
    return (byte >= 'A' && byte <= 'Z') || byte == '-' || byte == '_';
}

/* method SP target SP "HTTP/1." with visible bytes only in the target. */
static enum detected detect_http1(const uint8_t *bytes, size_t length)
{
    size_t at = 0;
    while (at < length && method_byte(bytes[at]))
        if (++at > METHOD_MAX)
            return DETECTED_OTHER;
    if (at == length)
        return DETECTED_MORE;
    if (at == 0 || bytes[at] != ' ')
        return DETECTED_OTHER;
    size_t target = ++at;
    while (at < length && bytes[at] > ' ' && bytes[at] != 0x7f)
        at++;
    if (at == length)
        return DETECTED_MORE;
    if (at == target || !starts_alike(bytes + at, length - at, VERSION, sizeof VERSION - 1))
        return DETECTED_OTHER;
    return length - at >= sizeof VERSION - 1 ? DETECTED_HTTP1 : DETECTED_MORE;
}

enum detected detect(const uint8_t *bytes, size_t length)
{
    if (length == 0)
        return DETECTED_MORE;
    if (bytes[0] == 0x16)
        return detect_tls(bytes, length);
    if (starts_alike(bytes, length, PREFACE, sizeof PREFACE - 1))
        return length >= sizeof PREFACE - 1 ? DETECTED_HTTP2 : DETECTED_MORE;
    return detect_http1(bytes, length);
}

/* A cursor that never leaves its bytes: reading beyond them makes it bad for good. */
struct cursor {
    const uint8_t *at;
    size_t left;
    bool bad;
};

static uint32_t number(struct cursor *c, size_t width)
{
    uint32_t value = 0;
    if (c->left < width)
        c->bad = true;
    if (c->bad)
        return 0;
    for (size_t i = 0; i < width; i++)
        value = value << 8 | c->at[i];
    c->at += width;
    c->left -= width;
    return value;
}

static struct cursor part(struct cursor *c, size_t length)
{
    if (c->left < length)
        c->bad = true;
    struct cursor inner = {c->at, c->bad ? 0 : length, c->bad};
    if (!c->bad) {
        c->at += length;
        c->left -= length;
    }
    return inner;
}

static int host_name(struct cursor extension, char *name, size_t capacity)
{
    struct cursor list = part(&extension, number(&extension, 2));
    while (!list.bad && list.left) {
        uint32_t kind = number(&list, 1);
        struct cursor text = part(&list, number(&list, 2));
        if (kind != 0)
            continue;
        if (list.bad || text.left == 0 || text.left >= capacity || memchr(text.at, 0, text.left))
            return 0;
        memcpy(name, text.at, text.left);
        name[text.left] = 0;
        return 1;
    }
    return 0;
}

static int server_name(struct cursor hello, char *name, size_t capacity)
{
    part(&hello, 2 + 32);
    part(&hello, number(&hello, 1)); /* session id */
    part(&hello, number(&hello, 2)); /* cipher suites */
    part(&hello, number(&hello, 1)); /* compression methods */
    struct cursor extensions = part(&hello, number(&hello, 2));
    while (!extensions.bad && extensions.left) {
        uint32_t kind = number(&extensions, 2);
        struct cursor body = part(&extensions, number(&extensions, 2));
        if (kind == 0 && !extensions.bad)
            return host_name(body, name, capacity);
    }
    return 0;
}

/* The first handshake message, put together from its records (RFC 8446 5.1). 1: whole; -1: more; -2: none. */
static int collect(struct cursor all, uint8_t *message, size_t *length)
{
    size_t have = 0, wanted = 4;
    for (int records = 0; have < wanted; records++) {
        uint32_t kind = number(&all, 1);
        number(&all, 2);
        uint32_t record = number(&all, 2);
        if (all.bad)
            return records < RECORDS_MAX ? -1 : -2;
        if (kind != HANDSHAKE || record == 0 || record > RECORD_MAX || records >= RECORDS_MAX)
            return -2;
        bool whole = record <= all.left;
        struct cursor fragment = part(&all, whole ? record : all.left);
        size_t some = fragment.left < HELLO_MAX - have ? fragment.left : HELLO_MAX - have;
        memcpy(message + have, fragment.at, some);
        have += some;
        if (have >= 4)
            wanted = 4 + ((size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]);
        if (wanted > HELLO_MAX)
            return -2;
        if (!whole && have < wanted)
            return -1;
    }
    *length = wanted;
    return 1;
}

int detect_sni(const uint8_t *bytes, size_t length, char *name, size_t capacity)
{
    uint8_t message[HELLO_MAX];
    size_t size;
    int found = collect((struct cursor){bytes, length, false}, message, &size);
    if (found < 0)
        return found;
    struct cursor handshake = {message, size, false};
    uint32_t kind = number(&handshake, 1);
    struct cursor hello = part(&handshake, number(&handshake, 3));
    if (hello.bad || kind != 1)
        return -2;
    return server_name(hello, name, capacity);
}
