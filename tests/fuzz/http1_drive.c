/* Drives a fuzz target where there is no libFuzzer: every file named, then so many mutants of them, always the same.
 *
 *   http1_drive COUNT FILE... */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 4096
#define FILES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length);

static struct {
    uint8_t bytes[INPUT_MAX];
    size_t length;
} files[FILES_MAX];

static uint64_t state = 0x9e3779b97f4a7c15;

static size_t chance(size_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (size_t)(state % below);
}

/* Overwrites, inserts or removes a few bytes, or takes some from another file. */
static size_t mutate(uint8_t *bytes, size_t length, size_t count)
{
    static const char LIKELY[] = "\r\n\t :;,=0159afAF/.*[]@#%\\\"\x80\x7f";
    size_t at = chance(length + 1), other = chance(count), some = 1 + chance(8);
    switch (chance(4)) {
    case 0:
        if (at < length)
            bytes[at] = (uint8_t)(chance(4) ? LIKELY[chance(sizeof LIKELY)] : (char)chance(256));
        return length;
    case 1:
        if (length == INPUT_MAX)
            return length;
        memmove(bytes + at + 1, bytes + at, length - at);
        bytes[at] = (uint8_t)LIKELY[chance(sizeof LIKELY)];
        return length + 1;
    case 2:
        some = some < length - at ? some : length - at;
        memmove(bytes + at, bytes + at + some, length - at - some);
        return length - some;
    default:
        some = chance(files[other].length + 1);
        some = some < INPUT_MAX - at ? some : INPUT_MAX - at;
        memcpy(bytes + at, files[other].bytes, some);
        return length > at + some ? length : at + some;
    }
}

int main(int arguments, char **argument)
{
    static uint8_t bytes[INPUT_MAX];
    size_t count = 0;
    for (int i = 2; i < arguments && count < FILES_MAX; i++) {
        FILE *file = fopen(argument[i], "rb");
        if (!file)
            return 2;
        files[count].length = fread(files[count].bytes, 1, INPUT_MAX, file);
        fclose(file);
        LLVMFuzzerTestOneInput(files[count].bytes, files[count].length);
        count++;
    }
    for (long left = arguments > 2 ? atol(argument[1]) : 0; left > 0; left--) {
        size_t from = chance(count), length = files[from].length;
        memcpy(bytes, files[from].bytes, length);
        for (size_t times = 1 + chance(6); times > 0; times--)
            length = mutate(bytes, length, count);
        LLVMFuzzerTestOneInput(bytes, length);
    }
    return 0;
}
