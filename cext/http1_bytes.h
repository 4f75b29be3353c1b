/* Bytes of HTTP/1: what each may be part of, and the searches that decide how fast a head is read.
 *
 * The searches take 16 bytes at a time where SSE2 is (all of x86-64) and never load beyond `end`. */
#ifndef SEINE_HTTP1_BYTES_H
#define SEINE_HTTP1_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define BYTE_TOKEN 1  /* RFC 9110 5.6.2 */
#define BYTE_HOST 2   /* reg-name of RFC 3986 without "%", and without the comma that joins two fields */
#define BYTE_HEX 4
#define BYTE_LITERAL 8 /* in an IPv6 literal */

extern const uint8_t http1_bytes[256];

static inline bool byte_is(uint8_t byte, uint8_t kind)
{
    return http1_bytes[byte] & kind;
}

static inline bool byte_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static inline bool byte_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* What ends a line, or must not be in one. */
static inline bool byte_control(uint8_t byte)
{
    return (byte < ' ' && byte != '\t') || byte == 0x7f;
}

/* What ends a target, or must not be in one; given that controls were sought before. */
static inline bool byte_ends_target(uint8_t byte)
{
    return byte <= ' ' || byte == '#' || byte >= 0x7f;
}

#if defined(__SSE2__)
static inline int controls_of_16(const uint8_t *at)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
    __m128i tab = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t'));
    __m128i del = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7f));
    return _mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, low), del));
}

static inline int target_ends_of_16(const uint8_t *at)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(' ')), bytes);
    __m128i hash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('#'));
    __m128i high = _mm_cmpeq_epi8(_mm_max_epu8(bytes, _mm_set1_epi8(0x7f)), bytes);
    return _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(low, hash), high));
}

/* Bytes that the names in use do not have: a token's rarer ones and what may follow it. */
static inline int uncommon_of_16(const uint8_t *at)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    __m128i letter = _mm_sub_epi8(_mm_or_si128(bytes, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    __m128i digit = _mm_sub_epi8(bytes, _mm_set1_epi8('0'));
    __m128i letters = _mm_cmpeq_epi8(_mm_min_epu8(letter, _mm_set1_epi8('z' - 'a')), letter);
    __m128i digits = _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit);
    __m128i dashes = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-'));
    return 0xffff & ~_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letters, digits), dashes));
}
#define SKIP_BLOCKS(at, end, mask_of_16) \
    for (; (end) - (at) >= 16; (at) += 16) { \
        int mask = mask_of_16(at); \
        if (mask) { \
            (at) += __builtin_ctz((unsigned)mask); \
            break; \
        } \
    }
#else
#define SKIP_BLOCKS(at, end, mask_of_16)
#endif

static inline const uint8_t *find_control(const uint8_t *at, const uint8_t *end)
{
    SKIP_BLOCKS(at, end, controls_of_16)
    while (at < end && !byte_control(*at))
        at++;
    return at;
}

static inline const uint8_t *find_target_end(const uint8_t *at, const uint8_t *end)
{
    SKIP_BLOCKS(at, end, target_ends_of_16)
    while (at < end && !byte_ends_target(*at))
        at++;
    return at;
}

static inline const uint8_t *find_token_end(const uint8_t *at, const uint8_t *end)
{
    SKIP_BLOCKS(at, end, uncommon_of_16)
    while (at < end && byte_is(*at, BYTE_TOKEN))
        at++;
    return at;
}

static inline uint64_t load_8(const void *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static inline uint32_t load_4(const void *at)
{
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* Case does not matter in `bytes`, which have no controls; `text` is in lower case and of bytes that a token may have.
 * The last word overlaps the one before it. */
static inline bool same_text(const uint8_t *bytes, const char *text, size_t length)
{
    const uint64_t lower = 0x2020202020202020;
    if (length >= 8) {
        size_t last = length - 8;
        for (size_t i = 0; i < last; i += 8)
            if ((load_8(bytes + i) | lower) != load_8(text + i))
                return false;
        return (load_8(bytes + last) | lower) == load_8(text + last);
    }
    if (length >= 4)
        return (load_4(bytes) | (uint32_t)lower) == load_4(text) &&
               (load_4(bytes + length - 4) | (uint32_t)lower) == load_4(text + length - 4);
    for (size_t i = 0; i < length; i++)
        if ((bytes[i] | 0x20) != text[i])
            return false;
    return true;
}

#endif
