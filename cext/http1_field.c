/* One field line: its name and value, and for the few that rule the connection or the body what they say.
 *
 * A line is complete and free of controls but TAB when it comes here; the CR after it stops every search. */
#include "http1_parts.h"

/* The next element of a comma-separated list (RFC 9110 5.6.1) in [*at, end): what stands between blanks. Moves `at`
 * behind the comma. */
static struct http1_slice element(const uint8_t *bytes, size_t *at, size_t end)
{
    size_t from = *at;
    while (from < end && byte_blank(bytes[from]))
        from++;
    size_t to = from;
    while (to < end && bytes[to] != ',')
        to++;
    *at = to + 1;
    while (to > from && byte_blank(bytes[to - 1]))
        to--;
    return slice(from, to);
}

static bool is_token(const uint8_t *bytes, struct http1_slice text)
{
    for (size_t i = 0; i < text.length; i++)
        if (!byte_is(bytes[text.at + i], BYTE_TOKEN))
            return false;
    return text.length > 0;
}

static bool is_text(const uint8_t *bytes, struct http1_slice value, const char *text, size_t length)
{
    return value.length == length && same_text(bytes + value.at, text, length);
}
#define IS(bytes, value, text) is_text(bytes, value, text, sizeof text - 1)

static int content_length(struct http1_head *head, const uint8_t *bytes, struct http1_slice value)
{
    const uint8_t *text = bytes + value.at;
    if (value.length == 0 || value.length > 19 || (text[0] == '0' && value.length > 1))
        return refuse(HTTP1_length_invalid);
    uint64_t number = 0; /* 19 digits fit in 64 bits */
    for (size_t i = 0; i < value.length; i++) {
        if (!byte_digit(text[i]))
            return refuse(HTTP1_length_invalid);
        number = number * 10 + (text[i] - '0');
    }
    head->content_length = number;
    return number > INT64_MAX ? refuse(HTTP1_length_invalid) : 0;
}

/* `chunked` alone is understood. Other codings may stand before it, and are then unknown; nothing may follow it. */
static int transfer_encoding(const uint8_t *bytes, struct http1_slice value)
{
    bool chunked = false, other = false;
    size_t at = value.at, end = at + value.length;
    do {
        struct http1_slice coding = element(bytes, &at, end);
        if (chunked || !is_token(bytes, coding))
            return refuse(HTTP1_coding_malformed);
        chunked = IS(bytes, coding, "chunked");
        other |= !chunked;
    } while (at <= end);
    return other ? refuse(HTTP1_coding_unknown) : 0;
}

static int nominate(struct http1_head *head, const uint8_t *bytes, struct http1_slice option)
{
    unsigned known = http1_name(bytes + option.at, option.length);
    if (known == HTTP1_NAME_COUNT || http1_name_rules(known) & HTTP1_FIXED)
        return refuse(HTTP1_connection_nominates);
    if (http1_name_rules(known) & HTTP1_HOP)
        return 0; /* left out anyhow */
    if (head->nominated_count == HTTP1_NOMINATED_MAX)
        return refuse(HTTP1_connection_too_many);
    head->nominated[head->nominated_count++] = option;
    return 0;
}

static int connection(struct http1_head *head, const uint8_t *bytes, struct http1_slice value)
{
    size_t at = value.at, end = at + value.length;
    do {
        struct http1_slice option = element(bytes, &at, end);
        int refused = 0;
        if (option.length == 0)
            continue; /* RFC 9110 5.6.1.2: a recipient ignores empty elements */
        if (!is_token(bytes, option))
            return refuse(HTTP1_connection_malformed);
        if (IS(bytes, option, "close"))
            head->seen |= SEEN_CLOSE;
        else if (IS(bytes, option, "keep-alive"))
            head->seen |= SEEN_KEEP_ALIVE;
        else if (IS(bytes, option, "upgrade"))
            head->seen |= SEEN_SWITCH;
        else
            refused = nominate(head, bytes, option);
        if (refused)
            return refused;
    } while (at <= end);
    return 0;
}

/* protocol-name ["/" protocol-version], listed. */
static int upgrade(struct http1_head *head, const uint8_t *bytes, struct http1_slice value)
{
    size_t at = value.at, end = at + value.length;
    if (head->upgrade_to.length == 0)
        head->upgrade_to = value;
    do {
        struct http1_slice protocol = element(bytes, &at, end), name = protocol;
        for (name.length = 0; name.length < protocol.length && bytes[name.at + name.length] != '/'; name.length++)
            ;
        struct http1_slice version = slice(name.at + name.length + 1u, protocol.at + protocol.length);
        if (!is_token(bytes, name) || (name.length < protocol.length && !is_token(bytes, version)))
            return refuse(HTTP1_upgrade_malformed);
        if (IS(bytes, name, "h2c") || IS(bytes, name, "h2") || IS(bytes, name, "http"))
            head->seen |= SEEN_OTHER_HTTP;
    } while (at <= end);
    return 0;
}

static int meaning(struct http1_head *head, const uint8_t *bytes, unsigned known, struct http1_slice value)
{
    bool request = head->side == HTTP1_REQUEST, again = head->seen & 1u << known;
    head->seen |= 1u << known;
    switch (known) {
    case HTTP1_NAME_HOST:
        if (!request)
            return 0;
        return again ? refuse(HTTP1_host_duplicate) : http1_host(head, bytes, value);
    case HTTP1_NAME_CONTENT_LENGTH:
        return again ? refuse(HTTP1_length_duplicate) : content_length(head, bytes, value);
    case HTTP1_NAME_TRANSFER_ENCODING:
        return again ? refuse(HTTP1_coding_malformed) : transfer_encoding(bytes, value);
    case HTTP1_NAME_CONNECTION:
        return connection(head, bytes, value);
    case HTTP1_NAME_UPGRADE:
        return upgrade(head, bytes, value);
    case HTTP1_NAME_EXPECT:
        return request && (again || !IS(bytes, value, "100-continue")) ? refuse(HTTP1_expectation) : 0;
    default:
        return 0;
    }
}

int http1_field(struct http1_head *head, const uint8_t *bytes, size_t begin, size_t end)
{
    if (byte_blank(bytes[begin]))
        return refuse(HTTP1_folded_line);
    size_t colon = (size_t)(find_token_end(bytes + begin, bytes + end + 2) - bytes); /* CR and LF are there to load */
    if (colon == begin || bytes[colon] != ':')
        return refuse(HTTP1_field_name);
    if (head->field_count == HTTP1_FIELDS_MAX)
        return refuse(HTTP1_too_many_fields);
    size_t from = colon + 1;
    while (byte_blank(bytes[from]))
        from++;
    while (end > from && byte_blank(bytes[end - 1]))
        end--;
    unsigned known = http1_name(bytes + begin, colon - begin);
    if (known == HTTP1_NAME_COUNT)
        return refuse(HTTP1_underscore_name);
    struct http1_slice value = slice(from, end);
    head->fields[head->field_count++] = (struct http1_field){slice(begin, colon), value, (uint16_t)known};
    return known ? meaning(head, bytes, known, value) : 0;
}
