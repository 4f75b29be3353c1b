/* Identities and trust as the agent tells them, made ready for handshakes. A change makes all contexts anew, and with them
 * the keys of session tickets: nobody resumes what was judged by another trust. */
#include "credential.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "provider.h"
#include "tunnel.h"

#define CERT_LIST_MAX 32768 /* bytes of a peer's chain: four certificates of ours, with room */
#define CHAIN_DEPTH_MAX 4
#define READ_AHEAD 65536    /* one recv gives so much, see tunnel.c */
#define SECURITY_LEVEL 2    /* 112 bits: no RSA below 2048, no SHA-1; whatever the machine's openssl.cnf says */
#define GROUPS "X25519:P-256:P-384" /* OpenSSL would do ffdhe8192 too, and nobody else anything meanwhile */
#define SUITES "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"       /* offered, in ztunnel's order */
#define SUITES_TAKEN "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384" /* of what is offered: a sixth less work for bulk */

/* ---- DER ---- */

static STACK_OF(X509) *certificates_of(const uint8_t *der, uint32_t bytes)
{
    STACK_OF(X509) *found = sk_X509_new_null();
    const uint8_t *at = der, *end = der + bytes;
    while (found && at < end) {
        X509 *one = X509_new_ex(provider_library(), TLS_PROPERTIES);
        if (one && d2i_X509(&one, &at, end - at) && sk_X509_push(found, one))
            continue;
        X509_free(one);
        sk_X509_pop_free(found, X509_free);
        return NULL;
    }
    return found;
}

/* ---- contexts ---- */

static X509_STORE *store_of(const struct trust *trust)
{
    X509_STORE *store = X509_STORE_new();
    for (int i = 0; store && i < sk_X509_num(trust->roots); i++)
        if (X509_STORE_add_cert(store, sk_X509_value(trust->roots, i)) != 1) {
            X509_STORE_free(store);
            return NULL;
        }
    return store;
}

static bool install(SSL_CTX *context, const STACK_OF(X509) *chain, const struct trust *trust)
{
    X509 *leaf = sk_X509_value(chain, 0);
    EVP_PKEY *key = leaf ? provider_key(leaf) : NULL;
    bool fine = key && SSL_CTX_use_certificate(context, leaf) == 1 && SSL_CTX_use_PrivateKey(context, key) == 1;
    for (int i = 1; fine && i < sk_X509_num(chain); i++)
        fine = SSL_CTX_add1_chain_cert(context, sk_X509_value(chain, i)) == 1;
    EVP_PKEY_free(key);
    X509_STORE *store = fine ? store_of(trust) : NULL;
    if (store)
        SSL_CTX_set_cert_store(context, store);
    return store;
}

static SSL_CTX *context_new(const struct credential *c, const STACK_OF(X509) *chain, const struct trust *trust, bool server)
{
    SSL_CTX *context = SSL_CTX_new_ex(provider_library(), TLS_PROPERTIES, server ? TLS_server_method() : TLS_client_method());
    if (!context)
        return NULL;
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set1_groups_list(context, GROUPS);
    SSL_CTX_set_ciphersuites(context, server ? SUITES_TAKEN : SUITES);
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_security_level(context, SECURITY_LEVEL);
    SSL_CTX_set_verify_depth(context, CHAIN_DEPTH_MAX);
    SSL_CTX_set_max_cert_list(context, CERT_LIST_MAX);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, READ_AHEAD);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY | SSL_MODE_ASYNC);
    SSL_CTX_set_num_tickets(context, server);
    tls_prepare(context, server);
    uint8_t id[SSL_MAX_SID_CTX_LENGTH] = {0}; /* tickets are good for one identity of ours: its context's keys, and its name */
    size_t length = strlen(c->name->text);
    for (size_t i = 0; i < length; i++)
        id[i % sizeof id] = (uint8_t)(id[i % sizeof id] * 31 + c->name->text[i]);
    SSL_CTX_set_session_id_context(context, id, sizeof id);
    if (install(context, chain, trust))
        return context;
    SSL_CTX_free(context);
    return NULL;
}

static void drop_contexts(struct credential *c)
{
    for (int role = 0; role < 2; role++) {
        SSL_CTX_free(c->contexts[role]);
        c->contexts[role] = NULL;
    }
}

/* Without trust yet there is nothing to do and nothing wrong. */
static int build(struct engine *e, struct credential *c, const uint8_t *der, uint32_t bytes)
{
    SSL_CTX *made[2] = {NULL, NULL};
    if (!e->trust)
        return 0;
    STACK_OF(X509) *chain = certificates_of(der, bytes);
    for (int role = 0; chain && role < 2; role++)
        made[role] = context_new(c, chain, e->trust, role == 1);
    sk_X509_pop_free(chain, X509_free);
    ERR_clear_error(); /* the queue is the thread's, and others look into it */
    if (!made[0] || !made[1]) { /* what was good stays */
        SSL_CTX_free(made[0]);
        SSL_CTX_free(made[1]);
        return -EINVAL;
    }
    drop_contexts(c);
    memcpy(c->contexts, made, sizeof made);
    return 0;
}

/* ---- identities ---- */

static struct credential *find(const struct engine *e, const char *name)
{
    for (struct list *at = e->credentials.next; at != &e->credentials; at = at->next)
        if (strcmp(container_of(at, struct credential, all)->name->text, name) == 0)
            return container_of(at, struct credential, all);
    return NULL;
}

struct credential *credential_find(const struct engine *e, const struct name *name)
{
    struct credential *c = name ? find(e, name->text) : NULL;
    return c && c->contexts[0] ? c : NULL;
}

static void credential_free(struct engine *e, struct credential *c)
{
    drop_contexts(c);
    list_remove(&c->all);
    name_unref(e, c->name);
    free(c->chain);
    free(c);
}

static struct credential *credential_new(struct engine *e, const char *name)
{
    struct credential *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    list_init(&c->all);
    c->name = name_get(e, name);
    if (!c->name) {
        free(c);
        return NULL;
    }
    list_push(&e->credentials, &c->all);
    return c;
}

int engine_set_identity(engine *e, const char *name, const uint8_t *chain, uint32_t bytes)
{
    struct credential *known = find(e, name), *c = known ? known : credential_new(e, name);
    uint8_t *copy = malloc(bytes ? bytes : 1);
    int result = c && copy ? build(e, c, chain, bytes) : -ENOMEM;
    if (result < 0) {
        free(copy);
        if (c && !known)
            credential_free(e, c);
        return result;
    }
    memcpy(copy, chain, bytes);
    free(c->chain);
    c->chain = copy;
    c->chain_bytes = bytes;
    e->trust_version++;
    return 0;
}

void engine_remove_identity(engine *e, const char *name)
{
    struct credential *c = find(e, name);
    if (c)
        credential_free(e, c);
}

/* ---- trust ---- */

static void trust_free(struct trust *trust)
{
    if (!trust)
        return;
    for (uint32_t i = 0; i < trust->denied_count; i++)
        free(trust->denied[i]);
    free(trust->denied);
    free(trust->domain);
    sk_X509_pop_free(trust->roots, X509_free);
    free(trust);
}

static struct trust *trust_new(const char *domain, const uint8_t *roots, uint32_t bytes, const char *const *denied,
                               uint32_t denied_count)
{
    struct trust *trust = calloc(1, sizeof *trust);
    if (!trust)
        return NULL;
    trust->domain = strdup(domain);
    trust->roots = certificates_of(roots, bytes);
    trust->denied = calloc(denied_count ? denied_count : 1, sizeof *trust->denied);
    bool fine = trust->domain && trust->roots && trust->denied;
    for (uint32_t i = 0; fine && i < denied_count; i++, trust->denied_count++)
        fine = (trust->denied[i] = strdup(denied[i]));
    if (fine)
        return trust;
    trust_free(trust);
    ERR_clear_error();
    return NULL;
}

/* By another trust; one that cannot be made so is of no use any more. */
static int rebuild(struct engine *e, struct credential *c)
{
    int result = build(e, c, c->chain, c->chain_bytes);
    if (result < 0)
        drop_contexts(c);
    return result;
}

int engine_set_trust(engine *e, const char *domain, const uint8_t *roots, uint32_t bytes, const char *const *denied,
                     uint32_t denied_count)
{
    struct trust *trust = trust_new(domain, roots, bytes, denied, denied_count);
    if (!trust)
        return -EINVAL;
    engine_begin(e);
    trust_free(e->trust);
    e->trust = trust;
    e->trust_version++;
    int result = 0;
    for (struct list *at = e->credentials.next; at != &e->credentials; at = at->next)
        result |= rebuild(e, container_of(at, struct credential, all));
    tunnels_judge(e);
    carry_judge(e);
    identities_judge(e);
    engine_finish(e);
    return result;
}

bool trust_denies(const struct engine *e, const char *name_or_serial)
{
    for (uint32_t i = 0; e->trust && i < e->trust->denied_count; i++)
        if (strcmp(e->trust->denied[i], name_or_serial) == 0)
            return true;
    return false;
}

bool trust_has(const struct engine *e, const char *spiffe, size_t domain_length)
{
    return e->trust && strlen(e->trust->domain) == domain_length &&
           memcmp(e->trust->domain, spiffe + strlen("spiffe://"), domain_length) == 0;
}

void credentials_free(struct engine *e)
{
    while (!list_empty(&e->credentials))
        credential_free(e, container_of(e->credentials.next, struct credential, all));
    trust_free(e->trust);
}
