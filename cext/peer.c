/* Who a certificate says its holder is, and whether that is who may be there. The contract is in peer.h. */
#include "peer.h"

#include <ctype.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "credential.h"

/* The length of "spiffe://DOMAIN" without the scheme, of exactly spiffe://DOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT; 0: no.
 * No port, user, query or fragment: none of their characters is one of a name's. */
static size_t spiffe_domain(const char *id)
{
    static const char NAME[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    static const char *const BEFORE[] = {"spiffe://", "/ns/", "/sa/"};
    size_t domain = 0;
    for (int i = 0; i < 3; i++) {
        if (strncmp(id, BEFORE[i], strlen(BEFORE[i])) != 0)
            return 0;
        id += strlen(BEFORE[i]);
        size_t length = strspn(id, NAME);
        if (length == 0)
            return 0;
        domain = domain ? domain : length;
        id += length;
    }
    return *id ? 0 : domain;
}

/* The one URI of the certificate; false: there is none, another one, or it is no text. */
static bool read_uri(X509 *leaf, char to[TLS_SPIFFE_MAX + 1])
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    int uris = 0;
    bool fine = true;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        const ASN1_IA5STRING *uri = name->d.uniformResourceIdentifier;
        int length = ASN1_STRING_length(uri);
        fine = uris++ == 0 && length <= TLS_SPIFFE_MAX && !memchr(ASN1_STRING_get0_data(uri), 0, (size_t)length);
        if (!fine)
            break;
        memcpy(to, ASN1_STRING_get0_data(uri), (size_t)length);
        to[length] = 0;
    }
    GENERAL_NAMES_free(names);
    return fine && uris == 1;
}

static void read_serial(X509 *leaf, char to[TLS_SERIAL_MAX])
{
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(leaf), NULL);
    char *text = number ? BN_bn2hex(number) : NULL;
    const char *digits = text ? text : "";
    to[0] = 0;
    if (strlen(digits) < TLS_SERIAL_MAX)
        for (size_t i = 0; i <= strlen(digits); i++)
            to[i] = (char)tolower((unsigned char)digits[i]);
    OPENSSL_free(text);
    BN_free(number);
}

enum tls_reason peer_judge(struct engine *e, X509 *leaf, const struct name *expected, struct peer *to)
{
    char id[TLS_SPIFFE_MAX + 1];
    if (X509_check_ca(leaf))
        return TLS_not_a_leaf;
    if (X509_cmp_current_time(X509_get0_notBefore(leaf)) > 0)
        return TLS_not_yet_valid;
    if (X509_cmp_current_time(X509_get0_notAfter(leaf)) < 0)
        return TLS_expired;
    size_t domain = read_uri(leaf, id) ? spiffe_domain(id) : 0;
    if (!domain)
        return TLS_not_spiffe;
    if (!trust_has(e, id, domain))
        return TLS_trust_domain;
    if (expected && strcmp(expected->text, id) != 0)
        return TLS_identity;
    read_serial(leaf, to->serial);
    if (trust_denies(e, id) || trust_denies(e, to->serial))
        return TLS_denied;
    name_unref(e, to->name);
    to->name = name_get(e, id);
    return to->name ? TLS_FINE : TLS_broken;
}

enum tls_reason peer_chain_reason(int error)
{
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED: return TLS_expired;
    case X509_V_ERR_CERT_NOT_YET_VALID: return TLS_not_yet_valid;
    case X509_V_ERR_INVALID_PURPOSE:
    case X509_V_ERR_INVALID_CA: return TLS_not_a_leaf;
    case X509_V_ERR_CERT_CHAIN_TOO_LONG: return TLS_chain;
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
    case X509_V_ERR_CA_MD_TOO_WEAK: return TLS_weak;
    default: return TLS_untrusted;
    }
}

bool peer_is_denied(const struct engine *e, const struct peer *peer)
{
    return peer->name && (trust_denies(e, peer->name->text) || trust_denies(e, peer->serial));
}
