/* Keys whose private half is elsewhere: an OpenSSL provider (provider(7)) with just EC key management, holding the
 * public half, and an ECDSA signature that asks the signer. It signs inside a paused job of the handshake
 * (SSL_MODE_ASYNC); outside of one it fails, since waiting would stop everybody.
 * Unqualified requests stay with OpenSSL's own provider: provider_library()'s users pass TLS_PROPERTIES. */
#include "provider.h"

#include <openssl/async.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "algorithms.h"
#include "signatures.h"

/* ---- keys ---- */

struct key {
    EVP_PKEY *public;
    int refs;
    uint8_t id[SIGNING_KEY_BYTES];
};

static void *key_new(void *provider)
{
    (void)provider;
    struct key *key = calloc(1, sizeof *key);
    if (key)
        key->refs = 1;
    return key;
}

static void key_free(void *self)
{
    struct key *key = self;
    if (!key || --key->refs > 0)
        return;
    EVP_PKEY_free(key->public);
    free(key);
}

static int key_has(const void *self, int selection)
{
    (void)selection; /* the private half too, as far as OpenSSL needs to know */
    return self != NULL;
}

static int key_match(const void *a, const void *b, int selection)
{
    (void)selection;
    return EVP_PKEY_eq(((const struct key *)a)->public, ((const struct key *)b)->public) == 1;
}

/* As the signer knows it. */
static bool name_key(struct key *key)
{
    uint8_t *der = NULL;
    int length = i2d_PUBKEY(key->public, &der);
    if (length > 0)
        SHA256(der, (size_t)length, key->id);
    OPENSSL_free(der);
    return length > 0;
}

static int key_import(void *self, int selection, const OSSL_PARAM values[])
{
    struct key *key = self;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(provider_library(), "EC", "provider=default");
    (void)selection;
    int made = context && EVP_PKEY_fromdata_init(context) == 1 &&
               EVP_PKEY_fromdata(context, &key->public, EVP_PKEY_PUBLIC_KEY, (OSSL_PARAM *)values) == 1 &&
               name_key(key);
    EVP_PKEY_CTX_free(context);
    return made;
}

static const OSSL_PARAM *key_import_types(int selection)
{
    static const OSSL_PARAM types[] = {OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
                                       OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0), OSSL_PARAM_END};
    (void)selection;
    return types;
}

static int key_get(void *self, OSSL_PARAM values[])
{
    return EVP_PKEY_get_params(((struct key *)self)->public, values);
}

static const OSSL_PARAM *key_gettable(void *provider)
{
    static const OSSL_PARAM values[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL), OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL), OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
        OSSL_PARAM_END};
    (void)provider;
    return values;
}

static const char *key_operation(int id)
{
    return id == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

/* ---- signing ---- */

struct signing {
    struct key *key;
};

static void *signing_new(void *provider, const char *properties)
{
    (void)provider, (void)properties;
    return calloc(1, sizeof(struct signing));
}

static void signing_free(void *self)
{
    struct signing *signing = self;
    key_free(signing->key);
    free(signing);
}

/* The digest is the signer's to choose: P-256 goes with SHA-256 in TLS 1.3 (RFC 8446 4.2.3). */
static int signing_init(void *self, const char *digest, void *key, const OSSL_PARAM values[])
{
    struct signing *signing = self;
    (void)values;
    if (digest && strcasecmp(digest, "SHA256") != 0 && strcasecmp(digest, "SHA2-256") != 0)
        return 0;
    if (key) {
        key_free(signing->key);
        signing->key = key;
        signing->key->refs++;
    }
    return 1;
}

static int signing_sign(void *self, unsigned char *signature, size_t *length, size_t room, const unsigned char *content,
                        size_t content_length)
{
    const struct signing *signing = self;
    if (!signature) {
        *length = SIGNING_SIGNATURE_MAX;
        return 1;
    }
    bool can_wait = content_length <= SIGNING_CONTENT_MAX && ASYNC_get_current_job();
    struct signature *s = can_wait ? tls_ask(signing->key->id, content, content_length) : NULL;
    if (!s)
        return 0;
    while (!s->done)
        ASYNC_pause_job();
    if (s->length == 0 || s->length > room)
        return 0;
    memcpy(signature, s->answer, s->length);
    *length = s->length;
    return 1;
}

/* ---- the provider ---- */

#define ENTRY(id, function) {id, (void (*)(void))function}
static const OSSL_DISPATCH KEYS[] = {ENTRY(OSSL_FUNC_KEYMGMT_NEW, key_new),
                                     ENTRY(OSSL_FUNC_KEYMGMT_FREE, key_free),
                                     ENTRY(OSSL_FUNC_KEYMGMT_HAS, key_has),
                                     ENTRY(OSSL_FUNC_KEYMGMT_MATCH, key_match),
                                     ENTRY(OSSL_FUNC_KEYMGMT_IMPORT, key_import),
                                     ENTRY(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_import_types),
                                     ENTRY(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get),
                                     ENTRY(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable),
                                     ENTRY(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, key_operation),
                                     {0, NULL}};
static const OSSL_DISPATCH SIGNATURES[] = {ENTRY(OSSL_FUNC_SIGNATURE_NEWCTX, signing_new),
                                           ENTRY(OSSL_FUNC_SIGNATURE_FREECTX, signing_free),
                                           ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, signing_init),
                                           ENTRY(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, signing_sign),
                                           {0, NULL}};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache)
{
    static const OSSL_ALGORITHM keys[] = {{"EC:id-ecPublicKey:1.2.840.10045.2.1", "provider=seine", KEYS, NULL}, {0}};
    static const OSSL_ALGORITHM signatures[] = {{"ECDSA", "provider=seine", SIGNATURES, NULL}, {0}};
    (void)provider;
    *no_cache = 0;
    return operation == OSSL_OP_KEYMGMT ? keys : operation == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static int provide(const OSSL_CORE_HANDLE *core, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **context)
{
    static const OSSL_DISPATCH functions[] = {ENTRY(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query), {0, NULL}};
    (void)in;
    *out = functions;
    *context = (void *)core;
    return 1;
}

OSSL_LIB_CTX *provider_library(void)
{
    static OSSL_LIB_CTX *library; /* of the process, for good: engines come and go */
    if (library)
        return library;
    OSSL_LIB_CTX *made = OSSL_LIB_CTX_new();
    if (!made || !OSSL_PROVIDER_add_builtin(made, "seine", provide) || algorithms_load(made) < 0 ||
        !OSSL_PROVIDER_load(made, "seine")) {
        OSSL_LIB_CTX_free(made);
        return NULL;
    }
    return library = made;
}

EVP_PKEY *provider_key(X509 *certificate)
{
    EVP_PKEY *public = X509_get0_pubkey(certificate), *key = NULL;
    OSSL_PARAM *values = NULL;
    if (!public || !EVP_PKEY_is_a(public, "EC") || EVP_PKEY_todata(public, EVP_PKEY_PUBLIC_KEY, &values) != 1)
        return NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(provider_library(), "EC", "provider=seine");
    if (!context || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, values) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(values);
    return key;
}
