#include "normal.h"

#include <stdbool.h>
#include <string.h>

static int hex_of(uint8_t byte)
{
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* What stands for itself in a segment (RFC 3986 3.3, pchar), but for ";": it begins parameters for some servers. */
static bool is_literal(uint8_t byte)
{
    uint8_t letter = byte | 0x20;
    return (letter >= 'a' && letter <= 'z') || (byte >= '0' && byte <= '9') ||
           (byte && memchr("-._~!$&'()*+,=:@", byte, 16));
}

/* RFC 3986 6.2.2.1, and further than 6.2.2.2: servers look for the bytes that are meant, so that an escape of what may
 * stand for itself is another spelling of it. 0: no escape, one that servers disagree about, or what must be escaped. */
static size_t unescape(uint8_t *path, size_t length)
{
    static const char capitals[] = "0123456789ABCDEF";
    size_t to = 0;
    for (size_t from = 0; from < length; from++) {
        if (path[from] != '%') {
            if (!is_literal(path[from]) && path[from] != '/' && path[from] != ';')
                return 0;
            path[to++] = path[from];
            continue;
        }
        int high = length - from > 2 ? hex_of(path[from + 1]) : -1, low = high < 0 ? -1 : hex_of(path[from + 2]);
        if (low < 0)
            return 0;
        uint8_t byte = (uint8_t)(high << 4 | low);
        if (byte == 0 || byte == '/' || byte == '\\' || byte == ';')
            return 0;
        if (is_literal(byte)) {
            path[to++] = byte;
        } else {
            path[to++] = '%';
            path[to++] = (uint8_t)capitals[high];
            path[to++] = (uint8_t)capitals[low];
        }
        from += 2;
    }
    return to;
}

/* "." and ".." (RFC 3986 6.2.2.3), of any parameters; 0: it is another segment. */
static size_t dots_of(const uint8_t *segment, size_t length)
{
    size_t dots = 0;
    while (dots < length && segment[dots] == '.')
        dots++;
    return dots <= 2 && (dots == length || segment[dots] == ';') ? dots : 0;
}

/* Resolves dot segments and merges slashes. 0: what the two mean together, or a dot segment's parameters, nobody knows. */
static size_t resolve(uint8_t *path, size_t length)
{
    bool merged = false, climbed = false, open = false; /* open: it ends in a slash */
    size_t to = 0;
    for (size_t from = 1, end; from <= length; from = end + 1) {
        const uint8_t *slash = memchr(path + from, '/', length - from);
        end = slash ? (size_t)(slash - path) : length;
        size_t some = end - from, dots = dots_of(path + from, some);
        if (dots && dots < some)
            return 0;
        merged |= some == 0 && end < length;
        climbed |= dots == 2;
        open = some == 0 || dots;
        if (dots == 2)
            while (to > 0 && path[--to] != '/')
                ;
        if (open)
            continue;
        path[to++] = '/';
        memmove(path + to, path + from, some);
        to += some;
    }
    if (merged && climbed)
        return 0;
    if (open || to == 0)
        path[to++] = '/';
    return to;
}

size_t normal_path(uint8_t *path, size_t length)
{
    length = unescape(path, length);
    return length ? resolve(path, length) : 0;
}

ptrdiff_t normal_host(const uint8_t *host, size_t length)
{
    if (memchr(host, '%', length))
        return -1;
    size_t end = length;
    while (end > 0 && host[end - 1] >= '0' && host[end - 1] <= '9')
        end--;
    if (end > 0 && host[end - 1] == ':')
        length = end - 1;
    return (ptrdiff_t)(length > 0 && host[length - 1] == '.' ? length - 1 : length);
}
