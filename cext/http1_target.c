/* Where a request is for: the target's form, the authority in it, and that Host says the same.
 *
 * What a path means ("..", "%2F", "//", ";") is for the server and the rules of routes to say; here only what could be
 * cut in two ways is refused: a fragment, and a backslash in the path, which some servers take for a slash. */
#include <string.h>

#include "http1_parts.h"

#define PORT_MAX 65535

/* ":" and a number from 1 to 65535, at the end. */
static bool is_port(const uint8_t *at, const uint8_t *end)
{
    uint32_t port = 0;
    if (end - at < 2 || end - at > 6 || *at++ != ':')
        return false;
    for (; at < end; at++) {
        if (!byte_digit(*at))
            return false;
        port = port * 10 + (*at - '0');
    }
    return port > 0 && port <= PORT_MAX;
}

/* Where a host ends, NULL when it is none: a name, an IPv4 address or an IPv6 literal. */
static const uint8_t *host_end(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *begin = at;
    if (at < end && *at == '[') {
        for (at++; at < end && byte_is(*at, BYTE_LITERAL); at++)
            ;
        return at < end && *at == ']' && at - begin > 2 ? at + 1 : NULL;
    }
    while (at < end) {
        if (byte_is(*at, BYTE_HOST))
            at++;
        else if (*at == '%' && end - at > 2 && byte_is(at[1], BYTE_HEX) && byte_is(at[2], BYTE_HEX))
            at += 3;
        else
            break;
    }
    return at > begin ? at : NULL;
}

static bool is_authority(const uint8_t *bytes, struct http1_slice text, bool wants_port)
{
    const uint8_t *end = bytes + text.at + text.length;
    const uint8_t *port = host_end(bytes + text.at, end);
    if (!port)
        return false;
    return port == end ? !wants_port : is_port(port, end);
}

static int path_of(struct http1_head *head, const uint8_t *bytes, size_t from, size_t to)
{
    const uint8_t *query = memchr(bytes + from, '?', to - from);
    head->path = slice(from, query ? (size_t)(query - bytes) : to);
    return memchr(bytes + from, '\\', head->path.length) ? refuse(HTTP1_target) : 0;
}

/* Length of "http://" or "https://", 0 for anything else. */
static size_t scheme(const uint8_t *at, size_t length)
{
    if (length > 7 && same_text(at, "http", 4) && memcmp(at + 4, "://", 3) == 0)
        return 7;
    return length > 8 && same_text(at, "https", 5) && memcmp(at + 5, "://", 3) == 0 ? 8 : 0;
}

static int absolute(struct http1_head *head, const uint8_t *bytes)
{
    size_t end = head->target.at + head->target.length;
    size_t begin = scheme(bytes + head->target.at, head->target.length);
    if (!begin)
        return refuse(HTTP1_target);
    begin += head->target.at;
    size_t path = begin;
    while (path < end && bytes[path] != '/' && bytes[path] != '?')
        path++;
    head->host = slice(begin, path);
    if (!is_authority(bytes, head->host, false))
        return refuse(HTTP1_target);
    return path_of(head, bytes, path, end);
}

int http1_target(struct http1_head *head, const uint8_t *bytes)
{
    struct http1_slice target = head->target;
    const uint8_t *text = bytes + target.at;
    if (head->method == HTTP1_CONNECT) {
        head->host = target;
        return is_authority(bytes, target, true) ? 0 : refuse(HTTP1_target);
    }
    if (*text == '/')
        return path_of(head, bytes, target.at, target.at + target.length);
    if (*text == '*') {
        head->path = target;
        return target.length == 1 && head->method == HTTP1_OPTIONS ? 0 : refuse(HTTP1_target);
    }
    return absolute(head, bytes);
}

static struct http1_slice without(struct http1_slice text, const uint8_t *bytes, const char *port)
{
    size_t length = strlen(port);
    if (text.length > length && memcmp(bytes + text.at + text.length - length, port, length) == 0)
        text.length -= (uint16_t)length;
    return text;
}

/* The same but for case and the scheme's own port. No two bytes of an authority but letters differ in bit 5 alone. */
static bool agree(const struct http1_head *head, const uint8_t *bytes, struct http1_slice host)
{
    bool plain = head->method != HTTP1_CONNECT && bytes[head->target.at + 4] == ':';
    const char *port = plain ? ":80" : ":443";
    struct http1_slice a = without(head->host, bytes, port), b = without(host, bytes, port);
    if (a.length != b.length)
        return false;
    for (size_t i = 0; i < a.length; i++)
        if ((bytes[a.at + i] | 0x20) != (bytes[b.at + i] | 0x20))
            return false;
    return true;
}

int http1_host(struct http1_head *head, const uint8_t *bytes, struct http1_slice value)
{
    if (!is_authority(bytes, value, false))
        return refuse(HTTP1_host_invalid);
    if (head->host.length && !agree(head, bytes, value))
        return refuse(HTTP1_host_mismatch);
    head->host = value;
    return 0;
}
