/* CONNECT requests made and judged. The contract is in hbone.h. */
#include "hbone.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define AUTHORITY_MAX 64 /* [IPv6]:PORT has 48 */
#define FORWARDED_MAX 384 /* for="[IPv6]:PORT";host= and a Service's name */

/* What is kept of a request's or response's fields until they are complete. */
struct head {
    char authority[AUTHORITY_MAX];
    char forwarded[FORWARDED_MAX];
    uint16_t status;
    bool connect;
};

/* ---- addresses as text ---- */

static void write_address(const struct endpoint_address *from, uint16_t port, char *to, size_t room)
{
    char ip[INET6_ADDRSTRLEN];
    if (address_is_v4(from->ip)) {
        inet_ntop(AF_INET, from->ip + 12, ip, sizeof ip);
        snprintf(to, room, "%s:%u", ip, port);
    } else {
        inet_ntop(AF_INET6, from->ip, ip, sizeof ip);
        snprintf(to, room, "[%s]:%u", ip, port);
    }
}

static bool read_ip(const char *text, bool six, uint8_t to[16])
{
    if (six)
        return inet_pton(AF_INET6, text, to) == 1 && !address_is_v4(to);
    memcpy(to, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
    return inet_pton(AF_INET, text, to + 12) == 1;
}

/* IP:PORT or [IPv6]:PORT, and nothing else. */
static bool read_address(const char *text, struct endpoint_address *to)
{
    char ip[AUTHORITY_MAX];
    bool six = *text == '[';
    const char *begin = text + six, *end = six ? strchr(text, ']') : strrchr(text, ':');
    const char *port = end && (!six || end[1] == ':') ? end + 1 + six : NULL;
    if (!port || (size_t)(end - begin) >= sizeof ip || strspn(port, "0123456789") != strlen(port) || !*port || strlen(port) > 5)
        return false;
    memcpy(ip, begin, (size_t)(end - begin));
    ip[end - begin] = 0;
    unsigned long number = strtoul(port, NULL, 10);
    to->port = (uint16_t)number;
    return number > 0 && number < 65536 && read_ip(ip, six, to->ip);
}

/* The first `for` of a Forwarded field (RFC 7239 4), when it is an address with a port. */
static bool read_forwarded(const char *text, struct endpoint_address *to)
{
    char node[AUTHORITY_MAX];
    if (strncasecmp(text, "for=\"", 5) != 0)
        return false;
    const char *begin = text + 5, *end = strchr(begin, '"');
    if (!end || (size_t)(end - begin) >= sizeof node)
        return false;
    memcpy(node, begin, (size_t)(end - begin));
    node[end - begin] = 0;
    return read_address(node, to);
}

/* ---- fields ---- */

static bool is(const uint8_t *name, size_t length, const char *text)
{
    return length == strlen(text) && memcmp(name, text, length) == 0;
}

static void keep(char *to, size_t room, const uint8_t *value, size_t length)
{
    bool fits = length < room && !memchr(value, 0, length);
    memcpy(to, value, fits ? length : 0);
    to[fits ? length : 0] = 0;
}

static bool field(struct engine *e, struct stream *st, const uint8_t *name, size_t name_length, const uint8_t *value,
                  size_t value_length)
{
    struct head *head = st->head;
    (void)e;
    if (!head && !(head = st->head = calloc(1, sizeof *head)))
        return false;
    if (is(name, name_length, ":status") && value_length == 3)
        head->status = (uint16_t)((value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0'));
    else if (is(name, name_length, ":method"))
        head->connect = is(value, value_length, "CONNECT");
    else if (is(name, name_length, ":authority"))
        keep(head->authority, sizeof head->authority, value, value_length);
    else if (is(name, name_length, "forwarded") && !*head->forwarded)
        keep(head->forwarded, sizeof head->forwarded, value, value_length);
    return true;
}

static void forget(struct stream *st)
{
    free(st->head);
    st->head = NULL;
}

/* ---- the source ---- */

static int error_of(uint16_t status)
{
    switch (status) {
    case 401:
    case 403: return EACCES;
    case 503: return ECONNREFUSED;
    default: return EPROTO;
    }
}

static void on_response(struct engine *e, struct stream *st)
{
    const struct head *head = st->head;
    uint16_t status = head ? head->status : 0;
    forget(st);
    if (status >= 200 && status < 300) {
        stream_open(e, st);
    } else if (status >= 200 || status < 100) {
        COUNT(e, hbone_refused);
        stream_break(e, st, error_of(status));
    }
}

static uint64_t chance(struct engine *e)
{
    e->random ^= e->random << 13;
    e->random ^= e->random >> 7;
    e->random ^= e->random << 17;
    return e->random;
}

static nghttp2_nv pair(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)name, (uint8_t *)value, strlen(name), strlen(value), NGHTTP2_NV_FLAG_NO_COPY_NAME};
}

struct stream *hbone_request(struct engine *e, struct session *s, struct tunnel *t)
{
    const struct target *target = s->dial.target;
    const struct pod *pod = pod_find(e, s->slot);
    const char *host = s->plan->host ? s->plan->host->text : NULL;
    char authority[AUTHORITY_MAX], client[AUTHORITY_MAX], forwarded[FORWARDED_MAX], trace[64];
    write_address(&target->address, target->address.port ? target->address.port : s->asked.port, authority, sizeof authority);
    write_address(&s->peer, s->peer.port, client, sizeof client);
    snprintf(forwarded, sizeof forwarded, "for=\"%s\"%s%s", client, host ? ";host=" : "", host ? host : "");
    snprintf(trace, sizeof trace, "00-%016lx%016lx-%016lx-01", chance(e), chance(e), chance(e));
    const nghttp2_nv fields[] = {pair(":method", "CONNECT"), pair(":authority", authority), pair("forwarded", forwarded),
                                 pair("traceparent", trace), pair("baggage", pod && pod->baggage ? pod->baggage : "")};
    struct stream *st = stream_new(&t->h2);
    if (st && h2_request(st, fields, pod && pod->baggage ? 5 : 4) == 0)
        return st;
    COUNT(e, no_memory);
    if (st)
        stream_unheld(e, st);
    return NULL;
}

const struct h2_use HBONE_SOURCE = {.server = false, .field = field, .head = on_response, .wake = tunnel_wake};

/* ---- the destination ---- */

static void refuse(struct engine *e, struct stream *st, uint16_t status)
{
    COUNT(e, hbone_refused);
    st->left_ns = e->now;
    st->out_end = true;
    h2_respond(st, status, false);
}

static bool is_ours(const struct engine *e, uint16_t port)
{
    const struct engine_config *c = &e->config;
    return port == c->outbound_port || port == c->inbound_port || port == c->tunnel_port;
}

/* Whose connection it is: as the source's proxy says, if the identity that it has proven is the one of that address; else
 * the address that the tunnel comes from. */
static struct endpoint_address client_of(const struct engine *e, const struct tunnel *t, const struct head *head)
{
    struct endpoint_address said;
    if (head && read_forwarded(head->forwarded, &said) && source_identity(e, said.ip) == tunnel_peer(t))
        return said;
    return t->remote;
}

/* Who it is must be who is at that address, as far as we know who that is. */
static bool is_out_of_place(const struct engine *e, const struct tunnel *t)
{
    const struct name *there = source_identity(e, t->remote.ip);
    return there && there != tunnel_peer(t);
}

/* The pod that the tunnel was made to; another one may have its place by now. */
static bool is_still_there(const struct engine *e, const struct tunnel *t)
{
    const struct pod *pod = pod_find(e, t->slot);
    return pod && pod->identity == tls_own(t->tls);
}

static void on_request(struct engine *e, struct stream *st)
{
    struct tunnel *t = tunnel_of(st->h2);
    const struct head *head = st->head;
    struct endpoint_address asked;
    bool fine = head && head->connect && read_address(head->authority, &asked) &&
                memcmp(asked.ip, t->local.ip, sizeof asked.ip) == 0 && !is_ours(e, asked.port);
    struct endpoint_address client = client_of(e, t, head);
    forget(st);
    if (!fine) {
        COUNT(e, hbone_bad_request);
        refuse(e, st, 400);
    } else if (is_out_of_place(e, t)) {
        COUNT(e, hbone_address_mismatch);
        refuse(e, st, 401);
    } else if (!is_still_there(e, t) || st->h2->abused) {
        refuse(e, st, 503);
    } else {
        COUNT(e, hbone_streams);
        st->refusal = 503;
        if (session_start_stream(e, st, t->slot, &client, &asked, tunnel_peer(t)) < 0)
            refuse(e, st, 503);
    }
}

const struct h2_use HBONE_DESTINATION = {.server = true, .field = field, .head = on_request, .wake = tunnel_wake};

void hbone_answer(struct engine *e, struct session *s)
{
    struct stream *st = s->client.stream;
    if (!st || st->open || !st->h2 || st->closed)
        return;
    h2_respond(st, 200, true);
    stream_open(e, st);
}

void hbone_refusal(struct session *s, uint16_t status)
{
    s->refusal = status; /* of an arrival */
    if (s->client.stream && s->client.stream->refusal)
        s->client.stream->refusal = status;
}
