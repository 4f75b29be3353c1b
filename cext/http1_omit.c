/* What of a head belongs to the connection it came on, and ends here (RFC 9110 7.6.1). */
#include <string.h>

#include "http1_parts.h"

static bool nominated(const struct http1_head *head, const uint8_t *bytes, struct http1_slice name)
{
    for (size_t i = 0; i < head->nominated_count; i++) {
        struct http1_slice option = head->nominated[i];
        size_t at = 0;
        if (option.length != name.length)
            continue;
        while (at < name.length && (bytes[option.at + at] | 0x20) == (bytes[name.at + at] | 0x20))
            at++;
        if (at == name.length)
            return true;
    }
    return false;
}

static bool is_left_out(const struct http1_head *head, const uint8_t *bytes, const struct http1_field *field)
{
    switch (field->known) {
    case HTTP1_NAME_UNKNOWN:
    case HTTP1_NAME_TRAILER:
        return nominated(head, bytes, field->name);
    case HTTP1_NAME_TE:
        return field->value.length != 8 || !same_text(bytes + field->value.at, "trailers", 8);
    case HTTP1_NAME_UPGRADE:
        return !head->upgrade;
    default:
        return http1_name_rules(field->known) & HTTP1_HOP;
    }
}

static int leave_out(struct http1_head *head, size_t from, size_t to)
{
    struct http1_slice *last = head->omit + head->omit_count;
    if (head->omit_count && last[-1].at + last[-1].length == from) {
        last[-1].length += (uint16_t)(to - from);
        return 0;
    }
    if (head->omit_count == HTTP1_OMIT_MAX)
        return refuse(HTTP1_connection_too_many);
    *last = slice(from, to);
    head->omit_count++;
    return 0;
}

#define SEEN_HOP \
    (SEEN(TE) | SEEN(UPGRADE) | SEEN(CONNECTION) | SEEN(KEEP_ALIVE) | SEEN(HTTP2_SETTINGS) | SEEN(PROXY_CONNECTION))

int http1_omit(struct http1_head *head, const uint8_t *bytes, size_t length)
{
    if (bytes[0] == '\r')
        leave_out(head, 0, 2);
    if (!(head->seen & SEEN_HOP))
        return 0;
    for (size_t i = 0; i < head->field_count; i++) {
        const struct http1_field *field = head->fields + i;
        if (!field->known && !head->nominated_count)
            continue; /* most fields of most heads */
        size_t next = i + 1 < head->field_count ? field[1].name.at : length - 2;
        int refused = is_left_out(head, bytes, field) ? leave_out(head, field->name.at, next) : 0;
        if (refused)
            return refused;
    }
    return 0;
}

size_t http1_strip(const struct http1_head *head, uint8_t *bytes)
{
    size_t gone = 0;
    for (size_t i = head->omit_count; i-- > 0;) {
        struct http1_slice range = head->omit[i];
        size_t from = i ? head->omit[i - 1].at + head->omit[i - 1].length : 0u;
        gone += range.length;
        memmove(bytes + from + gone, bytes + from, range.at - from);
    }
    return gone;
}
