/* The signer: keys, who asks, the agent, one epoll. The contract is in signer.h. */
#include "signer.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "list.h"
#include "signing.h"

#define SECURE_BYTES (1 << 18) /* some thousand private numbers of 32 bytes */
#define SECURE_LEAST 32
#define BUCKETS 256            /* by a key's first byte: its name is a hash */
#define KEYS_MAX 4096          /* identities of a node, with room for those that come and go */
#define CLIENTS_MAX 1024       /* workers and their successors */
#define BATCH 32
#define DESCRIPTORS_MAX 4      /* in one packet; one is expected */

struct key {
    struct key *next; /* in its bucket */
    EVP_PKEY *private;
    EVP_PKEY_CTX *context; /* ready to sign */
    uint8_t id[SIGNING_KEY_BYTES];
    bool kept; /* told by the agent of now */
};

struct client {
    struct list all;
    int fd; /* -1: gone, freed after the batch */
    bool full; /* it has not taken `answer` yet, and is not read meanwhile */
    struct signing_answer answer;
};

struct signer {
    int epoll, agent; /* -1: none */
    bool outdated;
    EVP_MD *sha256;
    struct key *keys[BUCKETS];
    struct list clients, gone;
    struct signing_report report;
};

/* ---- keys ---- */

int signer_lock_memory(void)
{
    return CRYPTO_secure_malloc_init(SECURE_BYTES, SECURE_LEAST) == 1 ? 0 : -1;
}

static struct key **place_of(struct signer *s, const uint8_t id[SIGNING_KEY_BYTES])
{
    struct key **at = &s->keys[id[0]];
    while (*at && memcmp((*at)->id, id, SIGNING_KEY_BYTES) != 0)
        at = &(*at)->next;
    return at;
}

static void key_free(struct key *key)
{
    if (!key)
        return;
    EVP_PKEY_CTX_free(key->context);
    EVP_PKEY_free(key->private);
    free(key);
}

static void forget(struct signer *s, struct key **place)
{
    struct key *key = *place;
    if (!key)
        return;
    *place = key->next;
    key_free(key);
    s->report.keys--;
}

static bool is_p256(const EVP_PKEY *key)
{
    char group[32] = "";
    return EVP_PKEY_is_a(key, "EC") &&
           EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, NULL) == 1 &&
           strcmp(group, "prime256v1") == 0;
}

static bool name_key(struct signer *s, struct key *key)
{
    uint8_t *der = NULL;
    int length = i2d_PUBKEY(key->private, &der);
    bool named = length > 0 && EVP_Digest(der, (size_t)length, key->id, NULL, s->sha256, NULL) == 1;
    OPENSSL_free(der);
    return named;
}

/* NULL: it is no private key of P-256. */
static struct key *key_new(struct signer *s, const uint8_t *secret, size_t length)
{
    struct key *key = calloc(1, sizeof *key);
    if (!key)
        return NULL;
    key->private = d2i_AutoPrivateKey(NULL, &secret, (long)length);
    key->context = key->private && is_p256(key->private) ? EVP_PKEY_CTX_new(key->private, NULL) : NULL;
    if (key->context && EVP_PKEY_sign_init(key->context) == 1 && name_key(s, key))
        return key;
    key_free(key);
    return NULL;
}

static bool add(struct signer *s, const uint8_t *secret, size_t length)
{
    struct key *key = length <= SIGNING_SECRET_MAX ? key_new(s, secret, length) : NULL;
    struct key **place = key ? place_of(s, key->id) : NULL;
    if (!place || (!*place && s->report.keys >= KEYS_MAX)) {
        key_free(key);
        return false;
    }
    forget(s, place);
    key->kept = true;
    key->next = *place;
    *place = key;
    s->report.keys++;
    return true;
}

/* Begins, or ends, the time in which an agent tells all keys that there are. */
static void keep(struct signer *s, bool ends)
{
    for (int i = 0; i < BUCKETS; i++)
        for (struct key **at = &s->keys[i]; *at;) {
            if (ends && !(*at)->kept) {
                forget(s, at);
                continue;
            }
            (*at)->kept = ends;
            at = &(*at)->next;
        }
}

/* ---- signatures ---- */

static bool proves_a_handshake(const uint8_t *content, size_t length)
{
    static const char SERVER[] = "TLS 1.3, server CertificateVerify", CLIENT[] = "TLS 1.3, client CertificateVerify";
    const size_t spaces = 64, before = spaces + sizeof SERVER; /* with its zero */
    if (length != before + 32 && length != before + 48)        /* SHA-256, SHA-384 */
        return false;
    for (size_t i = 0; i < spaces; i++)
        if (content[i] != ' ')
            return false;
    return memcmp(content + spaces, SERVER, sizeof SERVER) == 0 || memcmp(content + spaces, CLIENT, sizeof CLIENT) == 0;
}

static uint16_t sign(struct signer *s, const struct signing_request *request, struct signing_answer *answer)
{
    if (request->length > SIGNING_CONTENT_MAX || !proves_a_handshake(request->content, request->length))
        return SIGNING_CONTENT;
    const struct key *key = *place_of(s, request->key);
    if (!key)
        return SIGNING_UNKNOWN;
    uint8_t digest[32];
    size_t length = sizeof answer->signature;
    if (EVP_Digest(request->content, request->length, digest, NULL, s->sha256, NULL) != 1 ||
        EVP_PKEY_sign(key->context, answer->signature, &length, digest, sizeof digest) != 1)
        return SIGNING_FAILED;
    answer->length = (uint16_t)length;
    return SIGNING_SIGNED;
}

/* ---- who asks ---- */

static bool watch(struct signer *s, int operation, struct client *client, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    return epoll_ctl(s->epoll, operation, fd, &event) == 0;
}

static void client_end(struct signer *s, struct client *client, bool guilty)
{
    s->report.cut += guilty;
    s->report.clients--;
    close(client->fd);
    client->fd = -1;
    list_remove(&client->all);
    list_push(&s->gone, &client->all);
}

/* The socket is ours from here on. */
static void client_new(struct signer *s, int fd)
{
    struct client *client = s->report.clients < CLIENTS_MAX ? calloc(1, sizeof *client) : NULL;
    if (!client || !watch(s, EPOLL_CTL_ADD, client, fd, EPOLLIN)) {
        free(client);
        close(fd);
        return;
    }
    list_init(&client->all);
    client->fd = fd;
    list_push(&s->clients, &client->all);
    s->report.clients++;
}

static void tell(struct signer *s, struct client *client)
{
    ssize_t sent = send(client->fd, &client->answer, sizeof client->answer, MSG_DONTWAIT | MSG_NOSIGNAL);
    bool full = sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == EINTR);
    if (sent < 0 && !full)
        client_end(s, client, false);
    else if (full != client->full && !watch(s, EPOLL_CTL_MOD, client, client->fd, full ? EPOLLOUT : EPOLLIN))
        client_end(s, client, false);
    else
        client->full = full;
}

/* One request, then it is the others' turn. */
static void client_event(struct signer *s, struct client *client)
{
    struct signing_request request;
    if (client->full) {
        tell(s, client);
        return;
    }
    ssize_t got = recv(client->fd, &request, sizeof request, MSG_DONTWAIT | MSG_TRUNC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got != sizeof request) {
        client_end(s, client, got > 0);
        return;
    }
    client->answer = (struct signing_answer){.ticket = request.ticket};
    client->answer.result = sign(s, &request, &client->answer);
    s->report.results[client->answer.result]++;
    tell(s, client);
}

/* ---- the agent ---- */

static void agent_end(struct signer *s)
{
    if (s->agent < 0)
        return;
    close(s->agent);
    s->agent = -1;
}

/* false: it is no word of an agent's. */
static bool obey(struct signer *s, const struct signing_command *command, int fd)
{
    switch (command->kind) {
    case SIGNING_WELCOME: keep(s, false); return true;
    case SIGNING_ADD: return add(s, command->secret, command->length);
    case SIGNING_FORGET: forget(s, place_of(s, command->key)); return true;
    case SIGNING_KEEP: keep(s, true); return true;
    case SIGNING_SERVE:
        if (fd >= 0)
            client_new(s, fd);
        return fd >= 0;
    default: return false;
    }
}

/* The first descriptor beside a packet, others closed; -1: none. */
static int descriptor_of(struct msghdr *message)
{
    int found[DESCRIPTORS_MAX];
    struct cmsghdr *c = CMSG_FIRSTHDR(message);
    if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
        return -1;
    size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(found, CMSG_DATA(c), count * sizeof(int));
    for (size_t i = 1; i < count; i++)
        close(found[i]);
    return count > 0 ? found[0] : -1;
}

static void agent_event(struct signer *s)
{
    struct { uint8_t head[SIGNING_HEAD_BYTES]; struct signing_command command; } __attribute__((packed)) packet;
    union { struct cmsghdr align; char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))]; } rights;
    struct iovec vector = {.iov_base = &packet, .iov_len = sizeof packet};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = &rights, .msg_controllen = sizeof rights};
    struct signing_command command;
    ssize_t got = recvmsg(s->agent, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    int fd = got > 0 ? descriptor_of(&message) : -1;
    bool whole = got == sizeof packet && !(message.msg_flags & MSG_TRUNC);
    memcpy(&command, &packet.command, sizeof command);
    if (got >= (ssize_t)(SIGNING_HEAD_BYTES + sizeof command.version) && command.version != SIGNING_VERSION) {
        s->outdated = true; /* whatever else is in it */
        whole = false;
    }
    if (fd >= 0 && (!whole || command.kind != SIGNING_SERVE)) {
        close(fd);
        fd = -1;
    }
    if (!whole || !obey(s, &command, fd)) {
        s->report.cut += got > 0;
        agent_end(s);
    }
    OPENSSL_cleanse(&packet, sizeof packet);
    OPENSSL_cleanse(&command, sizeof command);
}

static void report(struct signer *s)
{
    struct { uint8_t head[SIGNING_HEAD_BYTES]; struct signing_report report; } __attribute__((packed)) packet = {
        .head = {sizeof packet.report & 0xff, sizeof packet.report >> 8}, .report = s->report};
    if (s->agent >= 0 && send(s->agent, &packet, sizeof packet, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        agent_end(s);
}

int signer_meet(signer *s, int fd)
{
    agent_end(s);
    if (!watch(s, EPOLL_CTL_ADD, NULL, fd, EPOLLIN)) {
        int error = errno;
        close(fd);
        return -error;
    }
    s->agent = fd;
    report(s);
    return 0;
}

/* ---- the loop ---- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void bury(struct signer *s)
{
    struct list *link;
    while ((link = list_shift(&s->gone)))
        free(container_of(link, struct client, all));
}

void signer_run(signer *s, int timeout_ms)
{
    int64_t end = now_ms() + timeout_ms, left = timeout_ms;
    bool had_agent = s->agent >= 0;
    do {
        struct epoll_event batch[BATCH];
        int count = epoll_wait(s->epoll, batch, BATCH, (int)left);
        for (int i = 0; i < count; i++) {
            struct client *client = batch[i].data.ptr;
            if (client && client->fd >= 0)
                client_event(s, client);
            else if (!client && s->agent >= 0)
                agent_event(s);
        }
        bury(s);
        if (count < 0 || (had_agent && s->agent < 0))
            break;
        left = end - now_ms();
    } while (left > 0);
    report(s);
}

int signer_fd(const signer *s)
{
    return s->epoll;
}

int signer_has_agent(const signer *s)
{
    return s->agent >= 0;
}

int signer_is_outdated(const signer *s)
{
    return s->outdated;
}

unsigned signer_clients(const signer *s)
{
    return s->report.clients;
}

signer *signer_new(void)
{
    struct signer *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    list_init(&s->clients);
    list_init(&s->gone);
    s->agent = -1;
    s->report.version = SIGNING_VERSION;
    s->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->sha256 && s->epoll >= 0)
        return s;
    int error = errno ? errno : ENOTSUP;
    signer_free(s);
    errno = error;
    return NULL;
}

void signer_free(signer *s)
{
    struct list *link;
    while ((link = list_shift(&s->clients))) {
        struct client *client = container_of(link, struct client, all);
        close(client->fd);
        free(client);
    }
    bury(s);
    for (int i = 0; i < BUCKETS; i++)
        while (s->keys[i])
            forget(s, &s->keys[i]);
    agent_end(s);
    if (s->epoll >= 0)
        close(s->epoll);
    EVP_MD_free(s->sha256);
    free(s);
}
