/* Invariant: however fed, the answer is the same (agree.h); what it names lies inside the head; and a head as it is
 * forwarded is accepted again, means the same and leaves nothing more out.
 *
 * An input: part, method and upgrade in two bytes, then the message. Built with libFuzzer, or with http1_drive.c. */
#include "agree.h"

#define MUST(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "broken: %s\n", #what); \
            abort(); \
        } \
    } while (0)

static void check_slice(struct http1_slice slice, size_t length)
{
    MUST((size_t)slice.at + slice.length <= length);
}

static void check_slices(const struct http1_head *head, size_t length)
{
    const struct http1_slice named[] = {head->verb, head->target, head->path, head->host, head->upgrade_to};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        check_slice(named[i], length);
    for (size_t i = 0; i < head->field_count; i++) {
        check_slice(head->fields[i].name, length);
        check_slice(head->fields[i].value, length);
        MUST(head->fields[i].name.length > 0);
    }
    size_t from = 0;
    for (size_t i = 0; i < head->omit_count; i++) {
        MUST(head->omit[i].at > from || i == 0);
        MUST(head->omit[i].length > 0);
        from = (size_t)head->omit[i].at + head->omit[i].length;
    }
    MUST(from <= length - 2 || from == 0);
}

static void check_forwarded(const struct task *task, const struct http1_head *head, const uint8_t *bytes, size_t length)
{
    static uint8_t room[HTTP1_HEAD_MAX];
    memcpy(room, bytes, length);
    size_t gone = http1_strip(head, room);
    struct outcome again = feed(task, room + gone, length - gone, 0, 1);
    MUST((size_t)again.got == length - gone);
    MUST(again.head.framing == head->framing && again.head.content_length == head->content_length);
    MUST(again.head.method == head->method && again.head.minor == head->minor && again.head.status == head->status);
    MUST(again.head.target.length == head->target.length && again.head.host.length == head->host.length);
    MUST(again.head.expect_continue == head->expect_continue && again.head.interim == head->interim);
    MUST(again.head.omit_count == 0 || head->upgrade); /* Upgrade, until the caller has added `Connection: upgrade` */
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t length)
{
    struct outcome out;
    if (length < 2 || length > ROOM_BYTES / 2)
        return 0;
    struct task task = {input[0] % 3, input[1] % 5, input[1] & 0x80};
    const uint8_t *bytes = input + 2;
    length -= 2;
    const char *how = disagreement(&task, bytes, length, &out);
    if (how)
        fprintf(stderr, "differs %s\n", how);
    MUST(!how);
    MUST(out.got <= (ptrdiff_t)length && out.got > -HTTP1_REASON_COUNT);
    if (task.part == PART_CHUNKED || out.got <= 0)
        return 0;
    check_slices(&out.head, (size_t)out.got);
    check_forwarded(&task, &out.head, bytes, (size_t)out.got);
    return 0;
}
