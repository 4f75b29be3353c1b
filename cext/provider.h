/* An OpenSSL library context in which our own private keys are the signer's. */
#ifndef SEINE_PROVIDER_H
#define SEINE_PROVIDER_H

#include "tls.h"

#define TLS_PROPERTIES "?provider=default" /* of everything that is not asked of our provider by name */

EVP_PKEY *provider_key(X509 *);       /* for this certificate; NULL: not an EC key, or no memory */
OSSL_LIB_CTX *provider_library(void); /* made at the first call; NULL: OpenSSL lacks something */

#endif
