/* Invariant: detection never reads beyond its bytes, and once it has answered, more bytes change nothing. */
#include <stdlib.h>
#include <string.h>

#include "detect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum detected whole = detect(data, size);
    char name[256];
    int sni = detect_sni(data, size, name, sizeof name);
    if (sni == 1 && (strlen(name) == 0 || strlen(name) >= sizeof name))
        abort();
    for (size_t length = size > 300 ? size - 300 : 0; length < size; length++) {
        enum detected part = detect(data, length);
        if (part != DETECTED_MORE && part != whole)
            abort();
        int early = detect_sni(data, length, name, sizeof name);
        if (early != -1 && early != sni)
            abort();
    }
    if (whole == DETECTED_TLS && sni == -1 && size >= 16384 + 32 * 5)
        abort();
    return 0;
}
