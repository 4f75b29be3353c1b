/* What the signer hears and says; read by the compiler and by cffi.
 *
 * One message is one packet of a SOCK_SEQPACKET socket and exactly one of these structs: a packet of another length ends
 * its conversation. Between agent and signer five bytes come before it, the head of mesh.aio.channel. Both ends are
 * processes of one machine: no byte order is chosen. A change of anything here is a new version. */
#ifndef SEINE_SIGNING_H
#define SEINE_SIGNING_H

#include <stdint.h>

#define SIGNING_VERSION 1
#define SIGNING_HEAD_BYTES 5
#define SIGNING_KEY_BYTES 32      /* a key's name: SHA-256 of its public half as DER (SubjectPublicKeyInfo) */
#define SIGNING_CONTENT_MAX 146   /* what TLS 1.3 has signed: 64 spaces, 33 characters, a zero, a hash (RFC 8446 4.4.3) */
#define SIGNING_SIGNATURE_MAX 72  /* ECDSA with P-256, DER */
#define SIGNING_SECRET_MAX 256    /* a private key of P-256 as PKCS #8 has 138 bytes */

/* ---- with whoever has handshakes to sign ---- */

struct signing_request {
    uint64_t ticket; /* comes back with the answer */
    uint8_t key[SIGNING_KEY_BYTES];
    uint8_t content[SIGNING_CONTENT_MAX];
    uint16_t length; /* of the content */
};

/* Why there is no signature. */
#define SIGNING_SIGNED 0
#define SIGNING_CONTENT 1 /* it is not what proves an identity in a handshake */
#define SIGNING_UNKNOWN 2 /* no such key */
#define SIGNING_FAILED 3  /* OpenSSL could not */
#define SIGNING_RESULTS 4

struct signing_answer {
    uint64_t ticket;
    uint8_t signature[SIGNING_SIGNATURE_MAX];
    uint16_t length; /* 0: refused */
    uint16_t result;
};

/* ---- with the agent ---- */

#define SIGNING_WELCOME 0 /* the agent's first word */
#define SIGNING_ADD 1     /* secret, length */
#define SIGNING_FORGET 2  /* key */
#define SIGNING_SERVE 3   /* beside it: a socket on which somebody asks */
#define SIGNING_KEEP 4    /* all keys were told since WELCOME: others, of a former agent, are forgotten */

struct signing_command {
    uint32_t version; /* first of all, in every version: a signer of another one ends, for a new one to start */
    uint16_t kind;
    uint16_t length;
    uint8_t key[SIGNING_KEY_BYTES];
    uint8_t secret[SIGNING_SECRET_MAX];
};

/* The signer's word, first of all and some times a second: the sign of its life. */
struct signing_report {
    uint64_t results[SIGNING_RESULTS]; /* so many answers of each kind */
    uint64_t cut;                      /* conversations ended because of what was said in them */
    uint32_t version;
    uint32_t keys;
    uint32_t clients;
};

#endif
