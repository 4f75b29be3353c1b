/* Who we are, and whom we believe. */
#ifndef SEINE_CREDENTIAL_H
#define SEINE_CREDENTIAL_H

#include "tls.h"

struct credential { /* one identity of ours; a renewed one takes the place of the old in the same struct */
    struct list all;
    struct name *name;
    SSL_CTX *contexts[2]; /* for the client's role, the server's; NULL: there is no trust yet */
    uint8_t *chain;       /* DER, leaf first */
    uint32_t chain_bytes;
};

struct trust {
    char *domain;
    STACK_OF(X509) *roots;
    char **denied; /* SPIFFE ids, or serial numbers in lower-case hexadecimal */
    uint32_t denied_count;
};

struct credential *credential_find(const struct engine *, const struct name *); /* NULL: none that can be used */
bool trust_denies(const struct engine *, const char *name_or_serial);
bool trust_has(const struct engine *, const char *spiffe, size_t domain_length); /* of our trust domain */
void credentials_free(struct engine *);

#endif
