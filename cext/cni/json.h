/*
 * As much JSON as a CNI plugin needs: find members of one object and hand their text on untouched.
 *
 * Contract: reads only between start and start + length, allocates nothing, keeps nothing. The whole text must be one
 * well-formed object (RFC 8259, nested NESTING_MAX deep at most), or nothing is found: half of a configuration would
 * be worse than none. Names are compared byte by byte, so one written with escapes is not found; of equal names the
 * last counts, as in Go, in which runtimes and other plugins are written.
 */
#ifndef SEINE_CNI_JSON_H
#define SEINE_CNI_JSON_H

#include <stdbool.h>
#include <stddef.h>

enum { NESTING_MAX = 64 }; /* results nest 4 deep; recursion costs about 100 bytes of stack for each */

struct text {
    const char *start; /* NULL: there is none */
    size_t length;
};

struct member {
    const char *name;
    struct text value; /* as it was written, quotes and all */
};

/* Fills in the values of those that are there; false when `whole` is no well-formed object. */
bool json_members(struct text whole, struct member *wanted, size_t count);

/* What is between the quotes of a string that has no escapes; false for anything else. */
bool json_plain(struct text value, struct text *inside);

#endif
