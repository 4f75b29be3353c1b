/* What handshakes want signed, asked of the signer (signer.h) over a socket of our own to it.
 *
 * While there is no signer, or it does not take more, requests wait: they are as many as there are handshakes, and end with
 * them. Another signer is asked again what the last one did not answer. */
#ifndef SEINE_SIGNATURES_H
#define SEINE_SIGNATURES_H

#include "signing.h"
#include "tls.h"

struct signature {
    struct list all;
    struct tls *tls; /* whose handshake is paused for it */
    bool sent, done;
    uint16_t length; /* of the answer; 0: refused */
    struct signing_request request;
    uint8_t answer[SIGNING_SIGNATURE_MAX];
};

/* NULL: no memory. `length` is at most SIGNING_CONTENT_MAX. */
struct signature *signature_ask(struct engine *, struct tls *, const uint8_t key[SIGNING_KEY_BYTES], const uint8_t *, size_t length);
void signature_free(struct signature *); /* NULL is fine */

void signatures_init(struct engine *);
void signatures_event(struct engine *, uint32_t events);
void signatures_close(struct engine *);

/* tls.c */
struct signature *tls_ask(const uint8_t key[SIGNING_KEY_BYTES], const uint8_t *, size_t); /* for the handshake that runs now */
void tls_signed(struct tls *); /* its signature is there, or refused: it goes on */

#endif
