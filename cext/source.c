/* Which workload an address is: a fixed number of chained buckets, plenty for the pods of a cluster. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

#define BUCKETS 4096

struct source {
    struct source *next;
    uint64_t id;
    struct name *identity;
    uint8_t ip[16];
};

struct sources {
    struct source *buckets[BUCKETS];
};

uint64_t hash_address(const uint8_t ip[16], uint16_t port)
{
    uint64_t words[2];
    memcpy(words, ip, sizeof words);
    uint64_t hash = (words[0] ^ port) * 0x9e3779b97f4a7c15ull;
    hash = (hash ^ (hash >> 32) ^ words[1]) * 0x9e3779b97f4a7c15ull;
    return hash ^ (hash >> 29);
}

static struct source **find(const struct engine *e, const uint8_t ip[16])
{
    struct source **at = &e->sources->buckets[hash_address(ip, 0) % BUCKETS];
    while (*at && memcmp((*at)->ip, ip, 16) != 0)
        at = &(*at)->next;
    return at;
}

uint64_t source_of(const struct engine *e, const uint8_t ip[16])
{
    if (!e->sources)
        return 0;
    const struct source *found = *find(e, ip);
    return found ? found->id : 0;
}

struct name *source_identity(const struct engine *e, const uint8_t ip[16])
{
    const struct source *found = e->sources ? *find(e, ip) : NULL;
    return found ? found->identity : NULL;
}

int engine_add_source(engine *e, const uint8_t address[16], uint64_t id, const char *identity)
{
    bool named = identity && *identity;
    struct name *name = named ? name_get(e, identity) : NULL;
    if (named && !name)
        return -ENOMEM;
    if (!e->sources)
        e->sources = calloc(1, sizeof *e->sources);
    struct source **at = e->sources ? find(e, address) : NULL;
    if (!at || (!*at && !(*at = calloc(1, sizeof **at)))) {
        name_unref(e, name);
        return -ENOMEM;
    }
    memcpy((*at)->ip, address, 16);
    (*at)->id = id;
    name_unref(e, (*at)->identity);
    (*at)->identity = name;
    return 0;
}

void engine_remove_source(engine *e, const uint8_t address[16])
{
    if (!e->sources)
        return;
    struct source **at = find(e, address);
    struct source *found = *at;
    if (found) {
        *at = found->next;
        name_unref(e, found->identity);
        free(found);
    }
}

void sources_free(struct engine *e)
{
    for (uint32_t i = 0; e->sources && i < BUCKETS; i++)
        while (e->sources->buckets[i]) {
            struct source *source = e->sources->buckets[i];
            e->sources->buckets[i] = source->next;
            name_unref(e, source->identity);
            free(source);
        }
    free(e->sources);
}
