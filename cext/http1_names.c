/* Tables: kinds of bytes, the names that a proxy must know, the reasons' words. */
#include "http1_parts.h"

#define ALPHA(c) (((c) >= 'a' && (c) <= 'z') || ((c) >= 'A' && (c) <= 'Z'))
#define DIGIT(c) ((c) >= '0' && (c) <= '9')
#define HEX(c) (DIGIT(c) || ((c) >= 'a' && (c) <= 'f') || ((c) >= 'A' && (c) <= 'F'))
#define MARK(c) /* of both tokens and hosts */ \
    ((c) == '!' || (c) == '$' || (c) == '&' || (c) == '\'' || (c) == '*' || (c) == '+' || (c) == '-' || \
     (c) == '.' || (c) == '_' || (c) == '~')
#define TOKEN(c) \
    (ALPHA(c) || DIGIT(c) || MARK(c) || (c) == '#' || (c) == '%' || (c) == '^' || (c) == '`' || (c) == '|')
#define HOST(c) (ALPHA(c) || DIGIT(c) || MARK(c) || (c) == '(' || (c) == ')' || (c) == ';' || (c) == '=')
#define LITERAL(c) (HEX(c) || (c) == ':' || (c) == '.')

#define KINDS(c) \
    (uint8_t)((TOKEN(c) ? BYTE_TOKEN : 0) | (HOST(c) ? BYTE_HOST : 0) | (HEX(c) ? BYTE_HEX : 0) | \
              (LITERAL(c) ? BYTE_LITERAL : 0))
#define KINDS_4(c) KINDS(c), KINDS((c) + 1), KINDS((c) + 2), KINDS((c) + 3)
#define KINDS_16(c) KINDS_4(c), KINDS_4((c) + 4), KINDS_4((c) + 8), KINDS_4((c) + 12)
#define KINDS_64(c) KINDS_16(c), KINDS_16((c) + 16), KINDS_16((c) + 32), KINDS_16((c) + 48)

const uint8_t http1_bytes[256] = {KINDS_64(0), KINDS_64(64), KINDS_64(128), KINDS_64(192)};

static const struct {
    const char *text;
    uint8_t length;
    uint8_t rules;
} NAMES[HTTP1_NAME_COUNT + 1] = {
#define NAME_ROW(id, text, rules) [HTTP1_NAME_##id] = {text, sizeof text - 1, rules},
    HTTP1_NAMES(NAME_ROW)
};

static const uint8_t FIRST_OF_LENGTH[HTTP1_KNOWN_MAX + 1] = {
    [2] = HTTP1_NAME_TE,
    [4] = HTTP1_NAME_HOST,
    [6] = HTTP1_NAME_COOKIE,
    [7] = HTTP1_NAME_TRAILER,
    [9] = HTTP1_NAME_FORWARDED,
    [10] = HTTP1_NAME_CONNECTION,
    [12] = HTTP1_NAME_CONTENT_TYPE,
    [13] = HTTP1_NAME_AUTHORIZATION,
    [14] = HTTP1_NAME_CONTENT_LENGTH,
    [15] = HTTP1_NAME_X_FORWARDED_FOR,
    [16] = HTTP1_NAME_CONTENT_ENCODING,
    [17] = HTTP1_NAME_TRANSFER_ENCODING,
    [19] = HTTP1_NAME_PROXY_AUTHORIZATION,
};

static bool underscored(const uint8_t *name, size_t length)
{
    if (length == sizeof "content_length" - 1)
        return name[7] == '_' && same_text(name, "content", 7) && same_text(name + 8, "length", 6);
    return length == sizeof "transfer_encoding" - 1 && name[8] == '_' && same_text(name, "transfer", 8) &&
           same_text(name + 9, "encoding", 8);
}

unsigned http1_name(const uint8_t *name, size_t length)
{
    if (length > HTTP1_KNOWN_MAX)
        return HTTP1_NAME_UNKNOWN;
    unsigned known = FIRST_OF_LENGTH[length];
    for (; NAMES[known].length == length; known++)
        if (same_text(name, NAMES[known].text, length))
            return known;
    return underscored(name, length) ? HTTP1_NAME_COUNT : HTTP1_NAME_UNKNOWN;
}

unsigned http1_name_rules(unsigned name)
{
    return NAMES[name].rules;
}

static const struct {
    const char *name;
    uint16_t status;
} REASONS[HTTP1_REASON_COUNT] = {
#define REASON_ROW(name, status) [HTTP1_##name] = {#name, status},
    HTTP1_REASONS(REASON_ROW)
};

const char *http1_reason_name(unsigned reason)
{
    return reason < HTTP1_REASON_COUNT ? REASONS[reason].name : NULL;
}

unsigned http1_reason_status(unsigned reason, enum http1_side side)
{
    if (side == HTTP1_RESPONSE)
        return 502;
    return reason < HTTP1_REASON_COUNT ? REASONS[reason].status : 400;
}

const char *http1_reason_flag(enum http1_side side)
{
    return side == HTTP1_RESPONSE ? "UPE" : "DPE";
}
