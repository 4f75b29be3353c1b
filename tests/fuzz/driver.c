/* Runs a libFuzzer target without libFuzzer, which gcc has not: driver ITERATIONS SEED FILE...
 *
 * Each round takes one of the files, changes it (bytes, cuts, doublings, another file's end), and hands a copy of exactly
 * that size to the target, so that AddressSanitizer sees one byte too far. The same seed makes the same rounds.
 * With clang the targets also link with -fsanitize=fuzzer instead of this file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 131072
#define FILES_MAX 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    uint8_t *bytes;
    size_t size;
};

static uint64_t state;

static uint32_t below(uint32_t bound)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) * bound >> 32);
}

static struct input load(const char *path)
{
    struct input input = {malloc(INPUT_MAX), 0};
    FILE *file = fopen(path, "rb");
    if (!file || !input.bytes) {
        perror(path);
        exit(2);
    }
    input.size = fread(input.bytes, 1, INPUT_MAX / 2, file);
    fclose(file);
    return input;
}

static uint8_t interesting(void)
{
    static const uint8_t bytes[] = "\0\1\t\n\r :;,/*0aA\x16\x7f\x80\xff";
    return below(4) ? bytes[below(sizeof bytes)] : (uint8_t)below(256);
}

static size_t change(uint8_t *bytes, size_t size, const struct input *other)
{
    size_t at = size ? below((uint32_t)size) : 0, length = size ? below((uint32_t)(size - at)) + 1 : 0;
    switch (below(6)) {
    case 0: /* cut out */
        length = length < size - at ? length : size - at;
        memmove(bytes + at, bytes + at + length, size - at - length);
        return size - length;
    case 1: /* double */
        length = length > 64 ? 64 : length;
        if (size + length > INPUT_MAX)
            return size;
        memmove(bytes + at + length, bytes + at, size - at);
        return size + length;
    case 2: /* another's end */
        if (other->size && at + other->size <= INPUT_MAX) {
            memcpy(bytes + at, other->bytes, other->size);
            return at + other->size;
        }
        return size;
    case 3: /* insert */
        if (size == INPUT_MAX)
            return size;
        memmove(bytes + at + 1, bytes + at, size - at);
        bytes[at] = interesting();
        return size + 1;
    default:
        if (size)
            bytes[at] = interesting();
        return size;
    }
}

static void run(const uint8_t *bytes, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int count, char **words)
{
    static uint8_t bytes[INPUT_MAX];
    struct input inputs[FILES_MAX];
    int files = count - 3;
    if (files < 1 || files > FILES_MAX) {
        fprintf(stderr, "usage: driver ITERATIONS SEED FILE...\n");
        return 2;
    }
    state = strtoull(words[2], NULL, 10) | 1;
    for (int i = 0; i < files; i++) {
        inputs[i] = load(words[i + 3]);
        run(inputs[i].bytes, inputs[i].size);
    }
    for (long round = strtol(words[1], NULL, 10); round > 0; round--) {
        const struct input *base = &inputs[below((uint32_t)files)];
        size_t size = base->size;
        memcpy(bytes, base->bytes, size);
        for (uint32_t changes = below(8) + 1; changes > 0; changes--)
            size = change(bytes, size, &inputs[below((uint32_t)files)]);
        run(bytes, size);
    }
    for (int i = 0; i < files; i++)
        free(inputs[i].bytes);
    return 0;
}
