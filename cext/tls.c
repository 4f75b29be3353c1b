/* One TLS connection over memory. The contract is in tls.h. */
#include "tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "credential.h"
#include "peer.h"
#include "provider.h"
#include "signatures.h"
#include "tunnel.h"

#define UPDATES_FREE 16 /* of keys, by the peer; one more per MiB that comes. Nobody needs one in 100 GiB */
#define OUT_KEPT 32768 /* of an empty buffer; a burst's memory goes back */

struct tls {
    SSL *ssl;
    struct engine *engine;
    struct tunnel *owner;
    struct name *own, *expected;
    struct peer peer;
    struct signature *signature; /* under way */
    SSL_SESSION *session;
    const uint8_t *in;
    size_t in_length;
    uint8_t *kept; /* what of it OpenSSL has not taken in a step that waits */
    uint8_t *out;
    size_t out_at, out_end, out_size;
    uint64_t received; /* of the peer's bytes */
    uint32_t updates;  /* of its keys */
    enum tls_reason failure;
};

static _Thread_local struct tls *running; /* whose handshake OpenSSL works on now */

/* ---- bytes in and out ---- */

static int bio_read(BIO *bio, char *to, int room)
{
    struct tls *tls = BIO_get_data(bio);
    size_t some = tls->in_length < (size_t)room ? tls->in_length : (size_t)room;
    BIO_clear_retry_flags(bio);
    if (some == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(to, tls->in, some);
    tls->in += some;
    tls->in_length -= some;
    return (int)some;
}

static bool make_room(struct tls *tls, size_t more)
{
    if (tls->out_at == tls->out_end)
        tls->out_at = tls->out_end = 0;
    if (tls->out_end + more <= tls->out_size)
        return true;
    size_t size = tls->out_size ? tls->out_size : 4096;
    while (size < tls->out_end + more)
        size *= 2;
    uint8_t *bigger = realloc(tls->out, size);
    if (!bigger)
        return false;
    tls->out = bigger;
    tls->out_size = size;
    return true;
}

static int bio_write(BIO *bio, const char *from, int length)
{
    struct tls *tls = BIO_get_data(bio);
    if (!make_room(tls, (size_t)length))
        return -1;
    memcpy(tls->out + tls->out_end, from, (size_t)length);
    tls->out_end += (size_t)length;
    return length;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO *bio_new(struct tls *tls)
{
    static BIO_METHOD *method; /* of the process, for good */
    if (!method && (method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "seine"))) {
        BIO_meth_set_read(method, bio_read);
        BIO_meth_set_write(method, bio_write);
        BIO_meth_set_ctrl(method, bio_control);
    }
    BIO *bio = method ? BIO_new(method) : NULL;
    if (bio) {
        BIO_set_data(bio, tls);
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* Bytes that a step left behind come before these; false: no memory. */
static bool keep(struct tls *tls, const uint8_t *more, size_t length)
{
    uint8_t *all = malloc(tls->in_length + length);
    if (!all)
        return false;
    memcpy(all, tls->in, tls->in_length);
    if (length)
        memcpy(all + tls->in_length, more, length);
    free(tls->kept);
    tls->in = tls->kept = all;
    tls->in_length += length;
    return true;
}

bool tls_feed(struct tls *tls, const uint8_t *bytes, size_t length)
{
    if (tls->in_length > 0)
        return keep(tls, bytes, length);
    free(tls->kept); /* all of it was taken */
    tls->kept = NULL;
    tls->in = bytes;
    tls->in_length = length;
    return true;
}

const uint8_t *tls_pending(const struct tls *tls, size_t *length)
{
    *length = tls->out_end - tls->out_at;
    return tls->out + tls->out_at;
}

void tls_sent(struct tls *tls, size_t length)
{
    tls->out_at += length;
    if (tls->out_at < tls->out_end)
        return;
    tls->out_at = tls->out_end = 0;
    if (tls->out_size <= OUT_KEPT)
        return;
    free(tls->out);
    tls->out = NULL;
    tls->out_size = 0;
}

/* ---- who is there ---- */

static int on_verify(int fine, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls *tls = SSL_get_app_data(ssl);
    if (!fine) {
        tls->failure = peer_chain_reason(X509_STORE_CTX_get_error(store));
        return 0;
    }
    if (X509_STORE_CTX_get_error_depth(store) > 0)
        return 1;
    tls->failure = peer_judge(tls->engine, X509_STORE_CTX_get_current_cert(store), tls->expected, &tls->peer);
    if (tls->failure == TLS_FINE)
        return 1;
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
    return 0;
}

bool tls_was_resumed(const struct tls *tls)
{
    return SSL_session_reused(tls->ssl);
}

bool tls_is_paused(const struct tls *tls)
{
    return tls->signature && !tls->signature->done;
}

bool tls_is_denied(const struct tls *tls)
{
    return peer_is_denied(tls->engine, &tls->peer);
}

bool tls_is_believed(const struct tls *tls)
{
    X509 *leaf = SSL_get0_peer_certificate(tls->ssl);
    struct credential *ours = credential_find(tls->engine, tls->own);
    X509_STORE_CTX *check = leaf && ours ? X509_STORE_CTX_new_ex(provider_library(), TLS_PROPERTIES) : NULL;
    bool fine = check &&
                X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(ours->contexts[0]), leaf, SSL_get_peer_cert_chain(tls->ssl)) &&
                X509_verify_cert(check) == 1;
    X509_STORE_CTX_free(check);
    ERR_clear_error();
    return fine;
}

const struct name *tls_own(const struct tls *tls)
{
    return tls->own;
}

struct name *tls_peer(const struct tls *tls)
{
    return tls->peer.name;
}

/* ---- the handshake ---- */

struct signature *tls_ask(const uint8_t key[SIGNING_KEY_BYTES], const uint8_t *content, size_t length)
{
    struct tls *tls = running;
    if (!tls)
        return NULL;
    signature_free(tls->signature);
    return tls->signature = signature_ask(tls->engine, tls, key, content, length);
}

void tls_signed(struct tls *tls)
{
    tunnel_signed(tls->engine, tls->owner);
}

static enum tls_reason reason_of(const struct tls *tls)
{
    unsigned long error = ERR_peek_error();
    int reason = ERR_GET_LIB(error) == ERR_LIB_SSL ? ERR_GET_REASON(error) : 0;
    if (tls->failure)
        return tls->failure;
    if (tls->signature && tls->signature->done && tls->signature->length == 0)
        return TLS_unsigned;
    switch (reason) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return TLS_no_certificate;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION: return TLS_version;
    case SSL_R_EXCESSIVE_MESSAGE_SIZE: return TLS_chain; /* no other message can be so long */
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_NO_SHARED_GROUPS:
    case SSL_R_NO_SUITABLE_GROUPS:
    case SSL_R_NO_SUITABLE_KEY_SHARE:
    case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
    case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM: return TLS_algorithms;
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL: return TLS_alpn;
    default: return reason > SSL_AD_REASON_OFFSET ? TLS_told : TLS_broken;
    }
}

static enum tls_reason after(struct tls *tls)
{
    const unsigned char *protocol = NULL;
    unsigned length = 0;
    SSL_get0_alpn_selected(tls->ssl, &protocol, &length);
    if (length != 2 || memcmp(protocol, "h2", 2) != 0)
        return TLS_alpn;
    X509 *leaf = SSL_get0_peer_certificate(tls->ssl);
    return leaf ? peer_judge(tls->engine, leaf, tls->expected, &tls->peer) : TLS_no_certificate;
}

enum tls_step tls_handshake(struct tls *tls)
{
    running = tls;
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    running = NULL;
    if (result == 1) {
        SSL_clear_mode(tls->ssl, SSL_MODE_ASYNC);
        signature_free(tls->signature); /* else it would be among those that wait for as long as the tunnel lives */
        tls->signature = NULL;
        tls->failure = after(tls);
        return tls->failure ? TLS_STEP_FAILED : TLS_STEP_DONE;
    }
    int error = SSL_get_error(tls->ssl, result);
    bool more = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_ASYNC;
    if (more && (tls->in_length == 0 || tls->in == tls->kept || keep(tls, NULL, 0)))
        return TLS_STEP_MORE;
    tls->failure = reason_of(tls);
    ERR_clear_error(); /* the queue is the thread's: a Python beside us would take our error for its own */
    return TLS_STEP_FAILED;
}

enum tls_reason tls_failure(const struct tls *tls)
{
    return tls->failure;
}

/* ---- records ---- */

ssize_t tls_read(struct tls *tls, uint8_t *to, size_t room)
{
    ERR_clear_error();
    int got = SSL_read(tls->ssl, to, (int)room);
    tls->received += got > 0 ? (uint64_t)got : 0;
    if (tls->updates > UPDATES_FREE + (tls->received >> 20)) {
        ERR_clear_error();
        return -EDQUOT;
    }
    if (got > 0)
        return got;
    int error = SSL_get_error(tls->ssl, got);
    bool told = ERR_GET_REASON(ERR_peek_error()) > SSL_AD_REASON_OFFSET; /* TLS 1.3: a client learns it only now */
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ ? -EAGAIN : error == SSL_ERROR_ZERO_RETURN ? 0 : told ? -ECONNABORTED : -EPROTO;
}

int tls_write(struct tls *tls, const uint8_t *from, size_t length)
{
    ERR_clear_error();
    if (SSL_write(tls->ssl, from, (int)length) == (int)length)
        return 0;
    ERR_clear_error();
    return -EPROTO;
}

void tls_bye(struct tls *tls)
{
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

/* ---- from beginning to end ---- */

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *length, const unsigned char *offered,
                   unsigned offered_length, void *unused)
{
    static const unsigned char OURS[] = "\2h2";
    (void)ssl, (void)unused;
    int found = SSL_select_next_proto((unsigned char **)out, length, OURS, 3, offered, offered_length);
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* 27 bytes that cost us a derivation and an answer. */
static void on_message(int sent, int version, int type, const void *bytes, size_t length, SSL *ssl, void *unused)
{
    struct tls *tls = SSL_get_app_data(ssl);
    (void)version, (void)unused;
    if (!sent && type == SSL3_RT_HANDSHAKE && length > 0 && *(const uint8_t *)bytes == SSL3_MT_KEY_UPDATE)
        tls->updates++;
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *tls = SSL_get_app_data(ssl);
    SSL_SESSION_free(tls->session);
    tls->session = session;
    return 1;
}

void tls_prepare(SSL_CTX *context, bool server)
{
    static const unsigned char OURS[] = "\2h2";
    SSL_CTX_set_msg_callback(context, on_message);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
    if (server) {
        SSL_CTX_set_alpn_select_cb(context, on_alpn, NULL);
        return;
    }
    SSL_CTX_set_alpn_protos(context, OURS, 3);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_session);
}

void tls_resume(struct tls *tls, SSL_SESSION *session)
{
    SSL_set_session(tls->ssl, session);
}

SSL_SESSION *tls_session(struct tls *tls)
{
    SSL_SESSION *session = tls->session;
    tls->session = NULL;
    return session;
}

struct tls *tls_new(struct engine *e, struct credential *credential, bool server, struct name *expected,
                    struct tunnel *owner)
{
    struct tls *tls = calloc(1, sizeof *tls);
    BIO *bio = tls ? bio_new(tls) : NULL;
    if (!bio || !(tls->ssl = SSL_new(credential->contexts[server]))) {
        BIO_free(bio);
        free(tls);
        return NULL;
    }
    tls->engine = e;
    tls->owner = owner;
    tls->own = name_ref(credential->name);
    tls->expected = name_ref(expected);
    SSL_set_app_data(tls->ssl, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    if (server)
        SSL_set_accept_state(tls->ssl);
    else
        SSL_set_connect_state(tls->ssl);
    return tls;
}

/* A handshake that is paused has a stack of its own: it is let run to its end first. */
static void unwind(struct tls *tls)
{
    if (!tls->signature || tls->signature->done)
        return;
    tls->signature->done = true;
    tls->signature->length = 0;
    tls_handshake(tls);
}

void tls_free(struct tls *tls)
{
    struct engine *e = tls->engine;
    unwind(tls);
    SSL_set_quiet_shutdown(tls->ssl, 1);
    SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* else its session could not be resumed */
    SSL_free(tls->ssl);
    SSL_SESSION_free(tls->session);
    signature_free(tls->signature);
    name_unref(e, tls->own);
    name_unref(e, tls->expected);
    name_unref(e, tls->peer.name);
    free(tls->kept);
    free(tls->out);
    free(tls);
}
