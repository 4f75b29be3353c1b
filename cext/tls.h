/* TLS 1.3 between nodes, on OpenSSL: one connection's handshake and records. No socket: ciphertext is fed in and comes out
 * as bytes.
 *
 * Private keys are not here. A handshake that must sign pauses (SSL_MODE_ASYNC), the signer is asked (signatures.h), and
 * tls_signed lets it go on: the loop never waits. Everything of OpenSSL lives in a library context of our own, so that
 * a Python in the same process keeps its defaults.
 * Who the other end is, is judged by peer.h, under a root that we believe; a resumed session is judged anew. */
#ifndef SEINE_TLS_H
#define SEINE_TLS_H

#include <openssl/ssl.h>

#include "core.h"

enum tls_step { TLS_STEP_DONE, TLS_STEP_MORE, TLS_STEP_FAILED };

struct credential; /* one identity of ours: its certificates, for both roles */
struct tls;        /* one connection */
struct tunnel;

/* `expected`: who must be there; NULL: anybody of our trust domain. `owner` is told by tunnel_signed. NULL: no memory. */
struct tls *tls_new(struct engine *, struct credential *, bool server, struct name *expected, struct tunnel *owner);
void tls_free(struct tls *);
void tls_prepare(SSL_CTX *, bool server); /* what contexts need of us */
void tls_resume(struct tls *, SSL_SESSION *); /* borrowed; of the same two identities and address */
SSL_SESSION *tls_session(struct tls *); /* owned: the last one that the server gave; NULL: none */

/* Ciphertext that came, borrowed until tls_handshake or tls_read wants more. false: no memory. */
bool tls_feed(struct tls *, const uint8_t *, size_t);
enum tls_step tls_handshake(struct tls *);
enum tls_reason tls_failure(const struct tls *); /* stats.h */
struct name *tls_peer(const struct tls *);       /* borrowed; after the handshake */
bool tls_was_resumed(const struct tls *);
bool tls_is_paused(const struct tls *);          /* waits for a signature */
bool tls_is_denied(const struct tls *);          /* by now */
bool tls_is_believed(const struct tls *);        /* still: by the roots of now */
const struct name *tls_own(const struct tls *);  /* who we are in it */

ssize_t tls_read(struct tls *, uint8_t *, size_t); /* > 0: plaintext; 0: the peer has ended; -EAGAIN: feed more;
                                                      * -ECONNABORTED: it says that it refuses us; -EPROTO */
int tls_write(struct tls *, const uint8_t *, size_t); /* all of it: 0, or -EPROTO */
void tls_bye(struct tls *);

/* Ciphertext to be sent; tls_sent says how much of it was. */
const uint8_t *tls_pending(const struct tls *, size_t *length);
void tls_sent(struct tls *, size_t);

#endif
