/* Signatures that the agent makes for us. */
#ifndef SEINE_SIGNER_H
#define SEINE_SIGNER_H

#include "tls.h"

#define TLS_PROPERTIES "?provider=default" /* of everything that is not asked of the signer by name */

struct signature {
    struct list all;
    struct tls *tls;       /* whose handshake is paused for it */
    struct name *identity; /* borrowed from it */
    uint64_t job;
    uint32_t length, answer_length; /* answer 0: refused */
    bool done;
    uint8_t content[TLS_SIGN_MAX];
    uint8_t answer[128];
};

/* Asks the agent by an event. NULL: no memory. */
struct signature *signature_ask(struct engine *, struct tls *, struct name *identity, const uint8_t *, size_t);
void signature_free(struct signature *); /* NULL is fine */

EVP_PKEY *signer_key(X509 *);        /* for this certificate; NULL: not an EC key, or no memory */
OSSL_LIB_CTX *signer_library(void);  /* made at the first call; NULL: OpenSSL lacks something */

/* tls.c */
struct signature *tls_ask(const uint8_t *, size_t); /* for the handshake that runs now */
void tls_signed(struct tls *);                      /* its signature is there, or refused: it goes on */

#endif
