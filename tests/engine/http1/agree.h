/* Invariant: how the bytes of a message are cut into calls, where they lie and what follows them never changes the
 * answer; and no byte beyond those given is read, for each call's bytes end where an unreadable page begins. */
#ifndef SEINE_TESTS_AGREE_H
#define SEINE_TESTS_AGREE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "http1.h"

#define PAGE_BYTES 4096
#define ROOM_BYTES (256 * 1024)
#define COPY_EACH_MAX 2048 /* longer messages are copied for fewer calls: n calls copy n*n/2 bytes */
#define SPLITS 6

enum part { PART_REQUEST, PART_RESPONSE, PART_CHUNKED };

struct task {
    enum part part;
    enum http1_method method; /* of the request, for a response */
    bool upgrade;
};

struct outcome {
    ptrdiff_t got;
    bool done;
    struct http1_head head;
};

/* Bytes at the very end of readable memory. */
static const uint8_t *at_guard(const uint8_t *bytes, size_t length)
{
    static uint8_t *room;
    if (!room) {
        room = mmap(NULL, ROOM_BYTES + PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED || mprotect(room + ROOM_BYTES, PAGE_BYTES, PROT_NONE) != 0)
            abort();
    }
    if (length > ROOM_BYTES)
        abort();
    return length ? memmove(room + ROOM_BYTES - length, bytes, length) : room + ROOM_BYTES;
}

static uint64_t chance(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Bytes that the next call adds. `most`: 0 all, 1 one, else up to so many. */
static size_t next_step(size_t left, size_t most, uint64_t *seed)
{
    size_t step = most == 0 ? left : most == 1 ? 1 : 1 + chance(seed) % most;
    return step < left ? step : left;
}

static struct outcome feed_head(const struct task *task, const uint8_t *bytes, size_t length, size_t most, uint64_t seed)
{
    struct outcome out = {0};
    bool copy = most != 1 || length <= COPY_EACH_MAX;
    http1_start(&out.head);
    for (size_t known = 0; out.got == 0 && known < length;) {
        known += next_step(length - known, most, &seed);
        const uint8_t *at = copy ? at_guard(bytes, known) : bytes;
        out.got = task->part == PART_REQUEST ? http1_request(&out.head, at, known)
                                             : http1_response(&out.head, at, known, task->method, task->upgrade);
        if (out.got > 0 && most == 1 && (size_t)out.got != known)
            out.got = -1000; /* it was complete before and nobody said so */
    }
    return out;
}

static struct outcome feed_chunked(const uint8_t *bytes, size_t length, size_t most, uint64_t seed)
{
    struct outcome out = {0};
    struct http1_chunked body = {0};
    while ((size_t)out.got < length && !body.done) {
        size_t step = next_step(length - (size_t)out.got, most, &seed);
        ptrdiff_t took = http1_chunked(&body, at_guard(bytes + out.got, step), step);
        if (took >= 0 && (size_t)took != step && !body.done)
            took = -1000; /* it left bytes without being done */
        out.got = took < 0 ? took : out.got + took;
        if (took < 0)
            break;
    }
    out.done = body.done;
    return out;
}

static struct outcome feed(const struct task *task, const uint8_t *bytes, size_t length, size_t most, uint64_t seed)
{
    return task->part == PART_CHUNKED ? feed_chunked(bytes, length, most, seed)
                                      : feed_head(task, bytes, length, most, seed);
}

static bool same_outcome(const struct outcome *a, const struct outcome *b)
{
    const struct http1_head *x = &a->head, *y = &b->head;
    if (a->got != b->got || a->done != b->done)
        return false;
    if (a->got <= 0)
        return true;
    return memcmp(x, y, offsetof(struct http1_head, omit)) == 0 &&
           memcmp(x->omit, y->omit, x->omit_count * sizeof *x->omit) == 0 &&
           memcmp(x->nominated, y->nominated, x->nominated_count * sizeof *x->nominated) == 0 &&
           memcmp(x->fields, y->fields, x->field_count * sizeof *x->fields) == 0;
}

/* What is decided stays decided, whatever follows. */
static bool same_with_more(const struct task *task, const uint8_t *bytes, size_t length, const struct outcome *whole)
{
    static const char *const MORE[] = {"GET / HTTP/1.1\r\n\r\n", "\r\n\r\n", "\n", " \t", "\0\xff\x01", "0\r\n\r\n"};
    static uint8_t room[ROOM_BYTES];
    if ((whole->got == 0 || (task->part == PART_CHUNKED && !whole->done)) && whole->got >= 0)
        return true;
    for (size_t i = 0; i < sizeof MORE / sizeof *MORE; i++) {
        size_t more = strlen(MORE[i]) + (i == 4 ? 3 : 0);
        if (length + more > sizeof room)
            return true;
        memcpy(room, bytes, length);
        memcpy(room + length, MORE[i], more);
        struct outcome out = feed(task, room, length + more, 0, 1);
        if (!same_outcome(whole, &out))
            return false;
    }
    return true;
}

/* NULL when all ways of feeding agree with *whole. */
static const char *disagreement(const struct task *task, const uint8_t *bytes, size_t length, struct outcome *whole)
{
    *whole = feed(task, bytes, length, 0, 1);
    struct outcome out = feed(task, bytes, length, 1, 1);
    if (!same_outcome(whole, &out))
        return "per byte";
    for (uint64_t split = 0; split < SPLITS; split++) {
        size_t most = length > COPY_EACH_MAX ? length / 8 : 2 + split * split * 3;
        out = feed(task, bytes, length, most, 0x9e3779b97f4a7c15 * (split + 1) ^ length);
        if (!same_outcome(whole, &out))
            return "randomly split";
    }
    return same_with_more(task, bytes, length, whole) ? NULL : "with more after it";
}

#endif
