/* What we say ourselves instead of a server, and how a connection is closed so that the client can read it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "exchange.h"

#define REPLY_MAX 512

struct words {
    const char *name, *sentence;
    uint16_t status;
    uint8_t flag;
    bool close;
};

#define REPLY_WORDS(name, status, flag, close, sentence) {#name, sentence, status, FLAG_##flag, close},
static const struct words WORDS[] = {REPLIES(REPLY_WORDS)};

static const char *phrase(unsigned status)
{
    switch (status) {
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 408: return "Request Timeout";
    case 414: return "URI Too Long";
    case 417: return "Expectation Failed";
    case 431: return "Request Header Fields Too Large";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    default: return "Error";
    }
}

/* Nothing of a response is on its way, so that the socket has room for these few bytes, unless the client has not read
 * many responses before: then it is reset. */
static bool say(struct engine *e, struct session *s, const struct words *words, bool persist, bool body)
{
    char text[REPLY_MAX];
    int length = snprintf(text, sizeof text,
                          "HTTP/1.1 %u %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nx-seine-reason: %s\r\n"
                          "%s\r\n%s%s",
                          words->status, phrase(words->status), strlen(words->sentence) + 1, words->name,
                          persist ? "" : "Connection: close\r\n", body ? words->sentence : "", body ? "\n" : "");
    COUNT(e, http_local_replies);
    return leg_write(e, &s->client, (const uint8_t *)text, (size_t)length) == length;
}

static enum step answer(struct engine *e, struct session *s, const struct words *words)
{
    struct exchange *x = s->exchange;
    bool persist = x && !words->close && x->keep_alive && x->request.done && !s->leaving && !e->leaving;
    bool said = say(e, s, words, persist, !x || x->method != HTTP1_HEAD);
    dial_leave(e, s, true);
    if (x) {
        x->code = words->status;
        x->request.at = x->request.cleared;
        exchange_end(e, s, (enum flag)words->flag);
    } else {
        exchange_unread(e, s, words->status, (enum flag)words->flag);
    }
    if (said)
        return exchange_next(e, s, persist);
    COUNT(e, http_reply_unsent);
    session_end(e, s, (enum flag)words->flag, true, true);
    return STEP_OVER;
}

enum step reply(struct engine *e, struct session *s, enum reply number)
{
    if (number == REPLY_overloaded)
        COUNT(e, http_overloaded);
    return answer(e, s, &WORDS[number]);
}

enum step reply_bad(struct engine *e, struct session *s, int reason, enum http1_side side)
{
    bool request = side == HTTP1_REQUEST;
    char sentence[128];
    snprintf(sentence, sizeof sentence, "The %s is not acceptable as HTTP/1: %s.", request ? "request" : "server's response",
             http1_reason_name((unsigned)reason));
    struct words words = {.name = http1_reason_name((unsigned)reason), .sentence = sentence, .close = request,
                          .status = (uint16_t)http1_reason_status((unsigned)reason, side),
                          .flag = request ? FLAG_DPE : FLAG_UPE};
    return answer(e, s, &words);
}

/* ---- closing ---- */

enum step linger_begin(struct engine *e, struct session *s)
{
    leg_drop(e, &s->client);
    if (s->client.ended) {
        session_end(e, s, FLAG_NONE, false, false);
        return STEP_OVER;
    }
    s->state = SESSION_CLOSING;
    s->lingered = 0;
    leg_shut(e, &s->client);
    timer_start(&e->wheel, &s->timer, ms_from_now(e, e->config.linger_ms));
    return STEP_NEXT;
}

enum step linger(struct engine *e, struct session *s)
{
    if (!s->client.readable)
        return STEP_WAIT;
    ssize_t got = leg_discard(e, &s->client);
    if (got > 0) {
        s->lingered += (uint32_t)got;
        if (s->lingered <= e->config.max_linger_bytes)
            return STEP_GO;
        COUNT(e, http_linger_limited);
        session_end(e, s, FLAG_NONE, true, true);
        return STEP_OVER;
    }
    if (got < 0 && errno == EAGAIN) {
        s->client.readable = false;
        return STEP_WAIT;
    }
    session_end(e, s, FLAG_NONE, false, false);
    return STEP_OVER;
}
