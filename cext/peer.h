/* Who the other end is: exactly one URI SAN, spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT, in a leaf that is no CA,
 * of our trust domain (SPIFFE X.509-SVID 4 and 5; Istio's path). Host names and addresses in certificates mean nothing.
 * That a root we believe vouches for it is OpenSSL's to find (tls.c). */
#ifndef SEINE_PEER_H
#define SEINE_PEER_H

#include <openssl/x509.h>

#include "core.h"

#define TLS_SPIFFE_MAX 2048 /* SPIFFE-ID 2.3 */
#define TLS_SERIAL_MAX 41   /* 20 bytes (RFC 5280 4.1.2.2) in hexadecimal; a longer one cannot be denied by number */

struct peer {
    struct name *name; /* owned; NULL: not proven */
    char serial[TLS_SERIAL_MAX];
};

/* `expected`: who must be there; NULL: anybody. Fills `to` when it is fine. */
enum tls_reason peer_judge(struct engine *, X509 *leaf, const struct name *expected, struct peer *to);
enum tls_reason peer_chain_reason(int error); /* of X509_V_ERR_*: why no root vouches for it */
bool peer_is_denied(const struct engine *, const struct peer *); /* by now */

#endif
