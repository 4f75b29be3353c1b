#include "stats.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine.h"

#define FILE_BYTES (STATS_SERIES_OFFSET + STATS_SERIES_MAX * sizeof(struct series))

_Static_assert(sizeof(struct stats_file) <= STATS_POLICIES_OFFSET, "the counters run into the policies");
_Static_assert(STATS_POLICIES_OFFSET + STATS_POLICIES_MAX * sizeof(struct policy_counts) <= STATS_SERIES_OFFSET,
               "the policies run into the series");
_Static_assert(sizeof(struct series_key) == 32, "the key has padding");

#define NAME_OF(name, gauge) #name,
#define GAUGE_OF(name, gauge) gauge,
#define TEXT_OF(name, text) text,
#define BAD_REQUEST_NAME(name, status) "bad_request_" #name,
#define BAD_RESPONSE_NAME(name, status) "bad_response_" #name,
#define TLS_NAME(name, text) "tls_failed_" #name,
static const char *const COUNTER_NAMES[] = {STATS_COUNTERS(NAME_OF) HTTP1_REASONS(BAD_REQUEST_NAME)
                                                HTTP1_REASONS(BAD_RESPONSE_NAME) TLS_REASONS(TLS_NAME)};
static const uint8_t COUNTER_GAUGES[COUNTER_COUNT] = {STATS_COUNTERS(GAUGE_OF)};
static const char *const FLAG_NAMES[] = {STATS_FLAGS(TEXT_OF)};
static const char *const SECURITY_NAMES[] = {STATS_SECURITIES(TEXT_OF)};
static const char *const PROTOCOL_NAMES[] = {STATS_PROTOCOLS(TEXT_OF)};
static const char *const VERDICT_NAMES[] = {STATS_VERDICTS(TEXT_OF)};

const char *engine_counter_name(uint32_t number)
{
    return number < COUNTER_COUNT ? COUNTER_NAMES[number] : NULL;
}

int engine_counter_is_gauge(uint32_t number)
{
    return number < COUNTER_COUNT && COUNTER_GAUGES[number];
}

const char *engine_flag_name(uint32_t number)
{
    return number < FLAG_COUNT ? FLAG_NAMES[number] : NULL;
}

static const char *const TLS_CLAUSES[] = {"nothing is wrong", TLS_REASONS(TEXT_OF)};

const char *engine_tls_reason(uint32_t number)
{
    return number < TLS_REASON_COUNT ? TLS_CLAUSES[number] : NULL;
}

const char *engine_security_name(uint32_t number)
{
    return number < SECURITY_COUNT ? SECURITY_NAMES[number] : NULL;
}

const char *engine_protocol_name(uint32_t number)
{
    return number < SPOKEN_COUNT ? PROTOCOL_NAMES[number] : NULL;
}

const char *engine_verdict_name(uint32_t number)
{
    return number < VERDICT_COUNT ? VERDICT_NAMES[number] : NULL;
}

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t length)
{
    for (const uint8_t *at = bytes; length--; at++)
        hash = (hash ^ *at) * 0x100000001b3ull; /* FNV-1a */
    return hash;
}

static uint64_t hash_names(uint64_t hash, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hash = hash_bytes(hash, names[i], strlen(names[i]) + 1);
    return hash;
}

/* Every name and size that a reader depends on. */
uint64_t engine_stats_layout(void)
{
    const uint64_t sizes[] = {STATS_VERSION, STATS_SERIES_MAX, STATS_SERIES_OFFSET, STATS_BUCKETS, sizeof(struct series),
                              STATS_POLICIES_OFFSET, STATS_POLICIES_MAX};
    uint64_t hash = hash_bytes(0xcbf29ce484222325ull, sizes, sizeof sizes);
    hash = hash_names(hash, COUNTER_NAMES, COUNTER_COUNT);
    hash = hash_names(hash, FLAG_NAMES, FLAG_COUNT);
    hash = hash_names(hash, VERDICT_NAMES, VERDICT_COUNT);
    return hash_names(hash, PROTOCOL_NAMES, SPOKEN_COUNT);
}

size_t engine_stats_bytes(void) { return FILE_BYTES; }
size_t engine_stats_policies_offset(void) { return STATS_POLICIES_OFFSET; }
uint32_t engine_stats_policies_max(void) { return STATS_POLICIES_MAX; }
size_t engine_stats_series_offset(void) { return STATS_SERIES_OFFSET; }
size_t engine_stats_series_bytes(void) { return sizeof(struct series); }
uint32_t engine_stats_series_max(void) { return STATS_SERIES_MAX; }
uint32_t engine_stats_buckets(void) { return STATS_BUCKETS; }

/* A key's first slot in the index: its words multiplied and folded. */
static uint32_t slot_of(const struct series_key *key)
{
    uint64_t words[4];
    memcpy(words, key, sizeof words);
    uint64_t hash = 0;
    for (int i = 0; i < 4; i++)
        hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ull, hash ^= hash >> 29;
    return (uint32_t)(hash & (STATS_INDEX_SIZE - 1));
}

/* The place of the key in the index: its own, or the free one where it belongs. */
static uint16_t *place_of(struct stats *stats, const struct series_key *key)
{
    uint32_t slot = slot_of(key);
    while (stats->index[slot] && memcmp(&stats->series[stats->index[slot]].key, key, sizeof *key) != 0)
        slot = (slot + 1) & (STATS_INDEX_SIZE - 1);
    return &stats->index[slot];
}

/* What is not a new key is left out: the file may be half written or wrong. */
void stats_index(struct stats *stats)
{
    memset(stats->index, 0, sizeof stats->index);
    for (uint32_t i = 1; i < stats->file->series_count; i++) {
        if (stats->series[i].key.protocol == SPOKEN_HOLE)
            continue;
        uint16_t *place = place_of(stats, &stats->series[i].key);
        if (*place == 0)
            *place = (uint16_t)i;
    }
}

void stats_spare(struct stats *stats)
{
    stats->spare_count = 0;
    for (uint32_t i = 1; i < stats->file->series_count; i++)
        if (stats->series[i].key.protocol == SPOKEN_HOLE)
            stats->spare[stats->spare_count++] = (uint16_t)i;
}

static void continue_file(struct stats *stats)
{
    for (uint32_t i = 0; i < COUNTER_COUNT; i++)
        if (COUNTER_GAUGES[i])
            stats->file->counters[i] = 0;
    if (stats->file->series_count == 0 || stats->file->series_count > STATS_SERIES_MAX)
        stats->file->series_count = 1;
    for (uint32_t i = 0; i < stats->file->series_count; i++)
        stats->series[i].closed = stats->series[i].opened; /* the dead one's connections died with it */
    stats_index(stats);
    stats_spare(stats);
}

static void make_file(struct stats *stats)
{
    memset(stats->file, 0, STATS_SERIES_OFFSET + sizeof(struct series)); /* a series is cleared when it is added */
    stats->file->series_count = 1;
    stats->file->version = STATS_VERSION;
    stats->file->layout = engine_stats_layout();
    __atomic_store_n(&stats->file->magic, STATS_MAGIC, __ATOMIC_RELEASE);
}

static bool is_ours(const struct stats_file *file)
{
    return file->magic == STATS_MAGIC && file->version == STATS_VERSION && file->layout == engine_stats_layout();
}

struct stats *stats_open(int fd)
{
    struct stat info;
    if (fstat(fd, &info) < 0)
        return NULL;
    if ((size_t)info.st_size != FILE_BYTES && ftruncate(fd, FILE_BYTES) < 0)
        return NULL;
    struct stats *stats = calloc(1, sizeof *stats);
    if (!stats)
        return NULL;
    stats->file = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (stats->file == MAP_FAILED) {
        free(stats);
        return NULL;
    }
    stats->policies = (struct policy_counts *)((char *)stats->file + STATS_POLICIES_OFFSET);
    stats->series = (struct series *)((char *)stats->file + STATS_SERIES_OFFSET);
    if (is_ours(stats->file))
        continue_file(stats);
    else
        make_file(stats);
    return stats;
}

void stats_close(struct stats *stats)
{
    munmap(stats->file, FILE_BYTES);
    free(stats);
}

uint64_t *stats_counters(struct stats *stats)
{
    return stats->file->counters;
}

/* Readers see a new series whole or not at all, and one that is used again first as nobody's. */
struct series *stats_series(struct stats *stats, const struct series_key *key)
{
    uint16_t *place = place_of(stats, key);
    if (*place)
        return &stats->series[*place];
    uint32_t count = stats->file->series_count;
    uint32_t number = stats->spare_count ? stats->spare[--stats->spare_count] : count;
    if (number >= STATS_SERIES_MAX) {
        stats->file->counters[COUNTER_series_overflow]++;
        return &stats->series[0];
    }
    struct series *series = &stats->series[number];
    if (number == count)
        memset(series, 0, sizeof *series);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    series->key = *key;
    *place = (uint16_t)number;
    if (number == count)
        __atomic_store_n(&stats->file->series_count, number + 1, __ATOMIC_RELEASE);
    return series;
}

struct policy_counts *stats_policy(struct stats *stats, uint64_t id, const uint32_t *uses)
{
    struct policy_counts *all = stats->policies, *found = NULL;
    if (id == 0)
        return &all[0];
    for (uint32_t i = 1; i < STATS_POLICIES_MAX; i++) {
        if (all[i].policy == id)
            return &all[i];
        if (!found && uses && uses[i] == 0)
            found = &all[i];
        if (all[i].policy == 0) {
            found = &all[i];
            break;
        }
    }
    if (!found) {
        stats->file->counters[COUNTER_policies_overflow]++;
        return NULL;
    }
    memset(found->counts, 0, sizeof found->counts);
    __atomic_store_n(&found->policy, id, __ATOMIC_RELEASE);
    return found;
}

uint32_t stats_bucket(uint64_t duration_ns)
{
    uint64_t us = duration_ns / 1000;
    if (us >> STATS_OCTAVES_MAX)
        return STATS_BUCKETS - 1;
    if (us < 1u << STATS_SUB_BITS)
        return (uint32_t)us;
    uint32_t octave = 63 - (uint32_t)__builtin_clzll(us);
    uint32_t shift = octave - STATS_SUB_BITS;
    return (shift << STATS_SUB_BITS) + (uint32_t)(us >> shift);
}

uint64_t engine_bucket_bound_us(uint32_t bucket)
{
    if (bucket >= STATS_BUCKETS - 1)
        return 0;
    if (bucket < 1u << STATS_SUB_BITS)
        return bucket + 1;
    uint32_t shift = (bucket >> STATS_SUB_BITS) - 1;
    uint64_t base = (1u << STATS_SUB_BITS) + (bucket & ((1u << STATS_SUB_BITS) - 1));
    return (base + 1) << shift;
}

void series_record(struct series *series, uint64_t duration_ns)
{
    series->count++;
    series->sum_ns += duration_ns;
    series->histogram[stats_bucket(duration_ns)]++;
}
