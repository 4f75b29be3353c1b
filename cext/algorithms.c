/* OpenSSL's own algorithms, less what no handshake of ours needs. The contract is in algorithms.h. */
#include "algorithms.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define OFFERED_MAX 32

static OSSL_PROVIDER *whole; /* in a library context of its own */

static bool is_one_of(const char *name, const char *const *names)
{
    size_t length = strcspn(name, ":"); /* others of its names follow */
    for (; *names; names++)
        if (strlen(*names) == length && memcmp(*names, name, length) == 0)
            return true;
    return false;
}

/* Those of a public key in a certificate, by the kinds of keys that authorities have. */
static bool reads_certificates(const OSSL_ALGORITHM *each)
{
    static const char *const KINDS[] = {"EC", "RSA", "RSA-PSS", "ED25519", "DER", NULL};
    return is_one_of(each->algorithm_names, KINDS) && strstr(each->property_definition, "input=der") &&
           strstr(each->property_definition, "structure=SubjectPublicKeyInfo");
}

static bool is_a_key_of_handshakes(const OSSL_ALGORITHM *each)
{
    static const char *const KINDS[] = {"EC", "RSA", "RSA-PSS", "ED25519", "X25519", "HMAC", "HKDF", NULL};
    return is_one_of(each->algorithm_names, KINDS);
}

/* `to` is filled at the first call, and the same at every other. */
static const OSSL_ALGORITHM *some_of(const OSSL_ALGORITHM *all, bool (*wanted)(const OSSL_ALGORITHM *),
                                     OSSL_ALGORITHM to[OFFERED_MAX + 1])
{
    size_t count = 0;
    for (; all && all->algorithm_names && count < OFFERED_MAX; all++)
        if (wanted(all))
            to[count++] = *all;
    to[count] = (OSSL_ALGORITHM){0};
    return to;
}

static const OSSL_ALGORITHM *query(void *context, int operation, int *no_cache)
{
    static OSSL_ALGORITHM decoders[OFFERED_MAX + 1], keys[OFFERED_MAX + 1];
    const OSSL_ALGORITHM *all = OSSL_PROVIDER_query_operation(whole, operation, no_cache);
    (void)context;
    switch (operation) {
    case OSSL_OP_DECODER: return some_of(all, reads_certificates, decoders);
    case OSSL_OP_KEYMGMT: return some_of(all, is_a_key_of_handshakes, keys);
    default: return all;
    }
}

static int capabilities(void *context, const char *capability, OSSL_CALLBACK *tell, void *argument)
{
    (void)context;
    return OSSL_PROVIDER_get_capabilities(whole, capability, tell, argument);
}

static int provide(const OSSL_CORE_HANDLE *core, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **context)
{
    static const OSSL_DISPATCH functions[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
                                              {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, (void (*)(void))capabilities},
                                              {0, NULL}};
    (void)core, (void)in;
    *out = functions;
    *context = OSSL_PROVIDER_get0_provider_ctx(whole);
    return 1;
}

int algorithms_load(OSSL_LIB_CTX *library)
{
    OSSL_LIB_CTX *apart = whole ? NULL : OSSL_LIB_CTX_new();
    if (!whole && !(whole = OSSL_PROVIDER_load(apart, "default"))) {
        OSSL_LIB_CTX_free(apart);
        return -1;
    }
    return OSSL_PROVIDER_add_builtin(library, "handshakes", provide) == 1 && OSSL_PROVIDER_load(library, "handshakes") ? 0 : -1;
}
