/* Heads: line by line. A line is searched once for its end and for bytes that no line may have, 16 at a time, and
 * judged when it is complete; the head as a whole is judged at its empty line. */
#include "http1.h"

#include <string.h>

#include "http1_parts.h"

void http1_start(struct http1_head *head)
{
    memset(head, 0, offsetof(struct http1_head, omit));
}

/* 1: the current line is complete and ends at *end; 0: more is needed; < 0: refused. */
static inline int next_line(struct http1_head *head, const uint8_t *bytes, size_t length, size_t *end)
{
    size_t known = length < HTTP1_HEAD_MAX ? length : HTTP1_HEAD_MAX;
    size_t stop = head->line + HTTP1_LINE_MAX + 1u < known ? head->line + HTTP1_LINE_MAX + 1u : known;
    size_t at = (size_t)(find_control(bytes + head->scanned, bytes + stop) - bytes);
    head->scanned = (uint16_t)at;
    if (at - head->line > HTTP1_LINE_MAX)
        return refuse(head->begun || head->side == HTTP1_RESPONSE ? HTTP1_line_too_long : HTTP1_target_too_long);
    if (at < known && bytes[at] != '\r')
        return refuse(bytes[at] == '\n' ? HTTP1_bare_lf : HTTP1_control_byte);
    if (at + 1 >= known)
        return known == HTTP1_HEAD_MAX ? refuse(HTTP1_head_too_long) : 0;
    *end = at;
    return bytes[at + 1] == '\n' ? 1 : refuse(HTTP1_bare_cr);
}

/* "HTTP/1.0" or "HTTP/1.1" at the 8 bytes of `text`. */
static int version(struct http1_head *head, const uint8_t *text)
{
    if (memcmp(text, "HTTP/", 5) != 0 || !byte_digit(text[5]) || text[6] != '.' || !byte_digit(text[7]))
        return refuse(HTTP1_version_malformed);
    if (text[5] != '1' || text[7] > '1')
        return refuse(HTTP1_version_unsupported);
    head->minor = text[7] - '0';
    return 0;
}

static enum http1_method method_of(const uint8_t *text, size_t length)
{
    static const struct {
        const char *text;
        uint8_t length;
    } METHODS[] = {[HTTP1_GET] = {"GET", 3}, {"HEAD", 4}, {"OPTIONS", 7}, {"CONNECT", 7}};
    for (unsigned i = HTTP1_GET; i <= HTTP1_CONNECT; i++)
        if (METHODS[i].length == length && memcmp(text, METHODS[i].text, length) == 0)
            return (enum http1_method)i;
    return HTTP1_OTHER;
}

/* method SP target SP version, RFC 9112 3. */
static int request_line(struct http1_head *head, const uint8_t *bytes, size_t begin, size_t end)
{
    size_t at = begin;
    if (begin == end) /* the one empty line that may come before */
        return begin == 0 ? 0 : refuse(HTTP1_request_line);
    while (byte_is(bytes[at], BYTE_TOKEN))
        at++;
    if (at == begin || at - begin > HTTP1_METHOD_MAX || (at < end && bytes[at] != ' '))
        return refuse(HTTP1_method);
    head->verb = slice(begin, at);
    head->method = (uint8_t)method_of(bytes + begin, at - begin);
    size_t target = at + 1;
    if (target >= end || bytes[target] == ' ')
        return refuse(HTTP1_request_line);
    at = (size_t)(find_target_end(bytes + target, bytes + end) - bytes);
    if (at < end && bytes[at] != ' ')
        return refuse(HTTP1_target);
    head->target = slice(target, at);
    if (at + 1 < end && bytes[at + 1] == ' ')
        return refuse(HTTP1_request_line);
    if (end - at != sizeof " HTTP/1.1" - 1)
        return refuse(HTTP1_version_malformed);
    int refused = version(head, bytes + at + 1);
    head->begun = true;
    return refused ? refused : http1_target(head, bytes);
}

/* version SP status [SP reason], RFC 9112 4; the second SP is left out by some servers. */
static int status_line(struct http1_head *head, const uint8_t *bytes, size_t begin, size_t end)
{
    const uint8_t *text = bytes + begin, *code = text + sizeof "HTTP/1.1 " - 1;
    if (end - begin < sizeof "HTTP/1.1 200" - 1 || text[8] != ' ')
        return refuse(HTTP1_status_line);
    int refused = version(head, text);
    if (refused)
        return refused;
    if (code[0] < '1' || code[0] > '9' || !byte_digit(code[1]) || !byte_digit(code[2]))
        return refuse(HTTP1_status_line);
    if (code + 3 < bytes + end && code[3] != ' ')
        return refuse(HTTP1_status_line);
    head->status = (uint16_t)((code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0'));
    head->begun = true;
    return 0;
}

/* All lines. > 0: the head's length. */
static int lines(struct http1_head *head, const uint8_t *bytes, size_t length)
{
    for (;;) {
        size_t begin = head->line, end = 0;
        int got = next_line(head, bytes, length, &end);
        if (got <= 0)
            return got;
        head->line = head->scanned = (uint16_t)(end + 2);
        if (head->begun && begin == end)
            return (int)head->line;
        if (head->begun)
            got = http1_field(head, bytes, begin, end);
        else
            got = head->side == HTTP1_REQUEST ? request_line(head, bytes, begin, end)
                                              : status_line(head, bytes, begin, end);
        if (got < 0)
            return got;
    }
}

/* How the body is framed if there is one: RFC 9112 6.3, without what that allows two readings of. */
static int frame(struct http1_head *head)
{
    bool length = head->seen & SEEN(CONTENT_LENGTH), coding = head->seen & SEEN(TRANSFER_ENCODING);
    if (length && coding)
        return refuse(HTTP1_length_and_coding);
    if (coding && head->minor == 0)
        return refuse(HTTP1_coding_on_http10);
    head->keep_alive = !(head->seen & SEEN_CLOSE) && (head->minor || head->seen & SEEN_KEEP_ALIVE);
    if (coding)
        head->framing = HTTP1_CHUNKED;
    else if (length)
        head->framing = head->content_length ? HTTP1_LENGTH : HTTP1_NO_BODY;
    else
        head->framing = head->side == HTTP1_REQUEST ? HTTP1_NO_BODY : HTTP1_UNTIL_CLOSE;
    return 0;
}

static int judge_request(struct http1_head *head)
{
    int refused = frame(head);
    if (refused)
        return refused;
    if (head->minor && !(head->seen & SEEN(HOST)))
        return refuse(HTTP1_host_missing);
    if (head->method == HTTP1_CONNECT && head->seen & (SEEN(CONTENT_LENGTH) | SEEN(TRANSFER_ENCODING)))
        return refuse(HTTP1_connect_body);
    head->expect_continue = head->seen & SEEN(EXPECT) && head->minor && head->framing != HTTP1_NO_BODY;
    head->upgrade = head->seen & SEEN(UPGRADE) && head->seen & SEEN_SWITCH && !(head->seen & SEEN_OTHER_HTTP) &&
                    head->minor && head->method != HTTP1_CONNECT;
    return 0;
}

static int judge_response(struct http1_head *head, enum http1_method method, bool upgrade)
{
    int refused = frame(head);
    if (refused)
        return refused;
    bool tunnel = head->status == 101 || (method == HTTP1_CONNECT && head->status / 100 == 2);
    bool bodiless = tunnel || head->status < 200 || head->status == 204;
    if (bodiless && (head->framing == HTTP1_LENGTH || head->framing == HTTP1_CHUNKED))
        return refuse(HTTP1_unexpected_body);
    if (head->status == 101 && !upgrade)
        return refuse(HTTP1_unasked_upgrade);
    if (tunnel)
        head->framing = HTTP1_TUNNEL;
    else if (bodiless || head->status == 304 || method == HTTP1_HEAD)
        head->framing = HTTP1_NO_BODY;
    head->keep_alive = head->keep_alive && head->framing < HTTP1_UNTIL_CLOSE;
    head->interim = head->status < 200 && !tunnel;
    head->upgrade = head->seen & SEEN(UPGRADE) && (head->status == 101 || head->status == 426);
    return 0;
}

int http1_request(struct http1_head *head, const uint8_t *bytes, size_t length)
{
    int got = lines(head, bytes, length);
    int refused = got > 0 ? judge_request(head) : 0;
    if (got > 0 && !refused)
        refused = http1_omit(head, bytes, (size_t)got);
    return refused ? refused : got;
}

int http1_response(struct http1_head *head, const uint8_t *bytes, size_t length, enum http1_method method, bool upgrade)
{
    head->side = HTTP1_RESPONSE;
    int got = lines(head, bytes, length);
    int refused = got > 0 ? judge_response(head, method, upgrade) : 0;
    if (got > 0 && !refused)
        refused = http1_omit(head, bytes, (size_t)got);
    return refused ? refused : got;
}
