/* Signatures for our handshakes. The contract is in signatures.h. */
#include "signatures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWERS_PER_EVENT 64 /* then others get their turn */

static bool has_signer(const struct engine *e)
{
    return e->signer.fd >= 0;
}

/* ---- asking ---- */

static void lose_signer(struct engine *e)
{
    if (!has_signer(e))
        return;
    watch_close(e, &e->signer, true);
    e->counters[COUNTER_signer] = 0;
    for (struct list *at = e->signatures.next; at != &e->signatures; at = at->next)
        container_of(at, struct signature, all)->sent = false;
}

static void broke(struct engine *e)
{
    COUNT(e, signer_lost);
    lose_signer(e);
}

/* false: not now. */
static bool send_one(struct engine *e, struct signature *s)
{
    ssize_t sent = send(e->signer.fd, &s->request, sizeof s->request, MSG_DONTWAIT | MSG_NOSIGNAL);
    s->sent = sent >= 0;
    if (sent < 0 && errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
        broke(e);
    return s->sent;
}

static void send_all(struct engine *e)
{
    bool waits = false;
    for (struct list *at = e->signatures.next; at != &e->signatures && has_signer(e) && !waits; at = at->next) {
        struct signature *s = container_of(at, struct signature, all);
        waits = !s->sent && !s->done && !send_one(e, s);
    }
    if (has_signer(e) && watch_set(e, &e->signer, EPOLLIN | (waits ? EPOLLOUT : 0)) < 0)
        broke(e);
}

struct signature *signature_ask(struct engine *e, struct tls *tls, const uint8_t key[SIGNING_KEY_BYTES], const uint8_t *content,
                                size_t length)
{
    struct signature *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->tls = tls;
    s->request.ticket = ++e->signature_tickets;
    s->request.length = (uint16_t)length;
    memcpy(s->request.key, key, sizeof s->request.key);
    memcpy(s->request.content, content, length);
    list_push(&e->signatures, &s->all);
    COUNT(e, tls_signatures);
    send_all(e);
    return s;
}

void signature_free(struct signature *s)
{
    if (s)
        list_remove(&s->all);
    free(s);
}

/* ---- answers ---- */

static struct signature *find(const struct engine *e, uint64_t ticket)
{
    for (struct list *at = e->signatures.next; at != &e->signatures; at = at->next)
        if (container_of(at, struct signature, all)->request.ticket == ticket)
            return container_of(at, struct signature, all);
    return NULL; /* its handshake is over */
}

static void take(struct engine *e, const struct signing_answer *answer)
{
    struct signature *s = find(e, answer->ticket);
    if (!s || s->done)
        return;
    s->done = true;
    s->length = answer->length <= sizeof s->answer ? answer->length : 0;
    memcpy(s->answer, answer->signature, s->length);
    if (s->length == 0)
        COUNT(e, tls_signature_refused);
    tls_signed(s->tls);
}

void signatures_event(struct engine *e, uint32_t events)
{
    for (int i = 0; i < ANSWERS_PER_EVENT && has_signer(e); i++) {
        struct signing_answer answer;
        ssize_t got = recv(e->signer.fd, &answer, sizeof answer, MSG_DONTWAIT | MSG_TRUNC);
        if (got == sizeof answer)
            take(e, &answer);
        else if (got < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        else
            broke(e);
    }
    if (events & EPOLLOUT)
        send_all(e);
}

/* ---- whom to ask ---- */

int engine_set_signer(engine *e, int fd)
{
    engine_begin(e);
    lose_signer(e);
    e->signer = (struct watch){.fd = fd, .kind = WATCH_SIGNER};
    if (watch_set(e, &e->signer, EPOLLIN) < 0) {
        int error = errno;
        lose_signer(e);
        return -error;
    }
    e->counters[COUNTER_signer] = 1;
    send_all(e);
    engine_finish(e);
    return 0;
}

void signatures_init(struct engine *e)
{
    list_init(&e->signatures);
    e->signer = (struct watch){.fd = -1, .kind = WATCH_SIGNER};
}

void signatures_close(struct engine *e)
{
    lose_signer(e);
}
