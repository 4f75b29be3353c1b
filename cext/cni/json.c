/* See json.h. Every function takes where a thing begins and answers where it ends, or NULL when it is none. */
#include "json.h"

#include <string.h>

static const char *value_end(const char *at, const char *end, int nesting);

static const char *skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
        at++;
    return at;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

static const char *string_end(const char *at, const char *end)
{
    if (at >= end || *at++ != '"')
        return NULL;
    while (at < end && *at != '"') {
        if ((unsigned char)*at < 0x20)
            return NULL;
        if (*at++ != '\\')
            continue;
        if (at >= end || !strchr("\"\\/bfnrtu", *at) || !*at)
            return NULL;
        if (*at++ != 'u')
            continue;
        for (int digit = 0; digit < 4; digit++, at++)
            if (at >= end || !is_hex(*at))
                return NULL;
    }
    return at < end ? at + 1 : NULL;
}

static const char *digits_end(const char *at, const char *end)
{
    const char *first = at;
    while (at < end && is_digit(*at))
        at++;
    return at > first ? at : NULL;
}

static const char *number_end(const char *at, const char *end)
{
    if (at < end && *at == '-')
        at++;
    if (at < end && *at == '0')
        at++;
    else if (!(at = digits_end(at, end)))
        return NULL;
    if (at < end && *at == '.' && !(at = digits_end(at + 1, end)))
        return NULL;
    if (at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = digits_end(at, end);
    }
    return at;
}

static const char *word_end(const char *at, const char *end, const char *word)
{
    size_t length = strlen(word);
    return (size_t)(end - at) >= length && !memcmp(at, word, length) ? at + length : NULL;
}

static void note(struct text name, struct text value, struct member *wanted, size_t count)
{
    for (size_t each = 0; each < count; each++)
        if (strlen(wanted[each].name) == name.length && !memcmp(wanted[each].name, name.start, name.length))
            wanted[each].value = value;
}

static const char *member_end(const char *at, const char *end, int nesting, struct member *wanted, size_t count)
{
    const char *name = at, *name_end = string_end(at, end);
    if (!name_end)
        return NULL;
    at = skip_space(name_end, end);
    if (at >= end || *at != ':')
        return NULL;
    const char *value = skip_space(at + 1, end);
    if (!(at = value_end(value, end, nesting)))
        return NULL;
    note((struct text){name + 1, (size_t)(name_end - name) - 2}, (struct text){value, (size_t)(at - value)}, wanted, count);
    return at;
}

/* An object or an array; `at` is behind its opening bracket. */
static const char *list_end(const char *at, const char *end, int nesting, char closing, struct member *wanted, size_t count)
{
    at = skip_space(at, end);
    if (at < end && *at == closing)
        return at + 1;
    while (at < end) {
        at = closing == '}' ? member_end(at, end, nesting, wanted, count) : value_end(at, end, nesting);
        if (!at)
            return NULL;
        at = skip_space(at, end);
        if (at >= end || (*at != ',' && *at != closing))
            return NULL;
        if (*at++ == closing)
            return at;
        at = skip_space(at, end);
    }
    return NULL;
}

static const char *value_end(const char *at, const char *end, int nesting)
{
    if (at >= end || nesting >= NESTING_MAX)
        return NULL;
    switch (*at) {
    case '{':
        return list_end(at + 1, end, nesting + 1, '}', NULL, 0);
    case '[':
        return list_end(at + 1, end, nesting + 1, ']', NULL, 0);
    case '"':
        return string_end(at, end);
    case 't':
        return word_end(at, end, "true");
    case 'f':
        return word_end(at, end, "false");
    case 'n':
        return word_end(at, end, "null");
    default:
        return number_end(at, end);
    }
}

bool json_members(struct text whole, struct member *wanted, size_t count)
{
    const char *end = whole.start + whole.length, *at = skip_space(whole.start, end);
    for (size_t each = 0; each < count; each++)
        wanted[each].value = (struct text){NULL, 0};
    if (at >= end || *at != '{')
        return false;
    at = list_end(at + 1, end, 1, '}', wanted, count);
    return at && skip_space(at, end) == end;
}

bool json_plain(struct text value, struct text *inside)
{
    if (value.length < 2 || *value.start != '"' || memchr(value.start, '\\', value.length))
        return false;
    *inside = (struct text){value.start + 1, value.length - 2};
    return true;
}
