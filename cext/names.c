/* Names that many sessions share, SPIFFE ids above all: each text is kept once, so that equal text is an equal pointer.
 * A fixed number of chained buckets, plenty for the service accounts of a cluster. */
#include <stdlib.h>
#include <string.h>

#include "core.h"

#define BUCKETS 1024

struct names {
    struct name *buckets[BUCKETS];
};

static struct name **place_of(const struct engine *e, const char *text)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    for (const char *at = text; *at; at++)
        hash = (hash ^ (uint8_t)*at) * 0x100000001b3ull; /* FNV-1a */
    struct name **at = &e->names->buckets[hash % BUCKETS];
    while (*at && strcmp((*at)->text, text) != 0)
        at = &(*at)->next;
    return at;
}

struct name *name_get(struct engine *e, const char *text)
{
    if (!e->names && !(e->names = calloc(1, sizeof *e->names)))
        return NULL;
    struct name **place = place_of(e, text), *name = *place;
    if (name)
        return name_ref(name);
    size_t bytes = strlen(text) + 1;
    if (!(name = malloc(sizeof *name + bytes)))
        return NULL;
    *name = (struct name){.refs = 1};
    memcpy(name->text, text, bytes);
    return *place = name;
}

struct name *name_ref(struct name *name)
{
    if (name)
        name->refs++;
    return name;
}

void name_unref(struct engine *e, struct name *name)
{
    if (!name || --name->refs > 0)
        return;
    *place_of(e, name->text) = name->next;
    free(name);
}

void names_free(struct engine *e)
{
    free(e->names);
}
