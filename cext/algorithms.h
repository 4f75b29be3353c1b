/* OpenSSL's default provider, less the decoders and kinds of keys that no handshake needs. OpenSSL 3.0 looks through all that
 * there are, some eighty and twenty, for every certificate that comes: a quarter of a millisecond of each end. */
#ifndef SEINE_ALGORITHMS_H
#define SEINE_ALGORITHMS_H

#include <openssl/provider.h>

int algorithms_load(OSSL_LIB_CTX *); /* in place of "default"; the properties are the same. -1: OpenSSL lacks something */

#endif
