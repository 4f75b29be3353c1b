/* The one spelling of a request's path and host that policies are compared with. What servers read in several ways has
 * none. The rules are those of mesh/identity/normal.py, and a test compares the two. No allocation, no state, no byte
 * outside of those given is touched. */
#ifndef SEINE_NORMAL_H
#define SEINE_NORMAL_H

#include <stddef.h>
#include <stdint.h>

/* Writes the normal form over a path that begins with "/" and has no query. Answers its length, which is never more than
 * it was. 0: it is ambiguous, and its bytes are void. */
size_t normal_path(uint8_t *path, size_t length);

/* How much of a Host field or an authority is the host, without port and final dot; its case does not matter.
 * -1: ambiguous. */
ptrdiff_t normal_host(const uint8_t *host, size_t length);

#endif
