/* Judges messages for test_*.py: frames on standard input, one line of JSON for each on standard output.
 *
 * A frame: part, method, upgrade, 0 (bytes), length (32 bits, this machine's order), the bytes. An answer is what all
 * ways of feeding the message agree on (agree.h), or {"disagree": HOW}. Called with an argument, it lists the reasons. */
#include "agree.h"

static void print_slice(const char *name, struct http1_slice slice)
{
    printf(", \"%s\": [%u, %u]", name, slice.at, slice.length);
}

static void print_fields(const struct http1_head *head)
{
    printf(", \"fields\": [");
    for (size_t i = 0; i < head->field_count; i++) {
        struct http1_field field = head->fields[i];
        printf("%s[%u, %u, %u, %u]", i ? ", " : "", field.name.at, field.name.length, field.value.at, field.value.length);
    }
    printf("]");
}

static void print_forwarded(const struct http1_head *head, const uint8_t *bytes, size_t length)
{
    static uint8_t room[HTTP1_HEAD_MAX];
    memcpy(room, bytes, length);
    printf(", \"forwarded\": \"");
    for (size_t at = http1_strip(head, room); at < length; at++)
        printf("%02x", room[at]);
    printf("\"");
}

static void print_head(const struct http1_head *head, const uint8_t *bytes, size_t length)
{
    static const char *const FRAMINGS[] = {"none", "length", "chunked", "until_close", "tunnel"};
    static const char *const METHODS[] = {"other", "get", "head", "options", "connect"};
    printf("{\"length\": %zu, \"minor\": %u, \"method\": \"%s\", \"status\": %u, \"framing\": \"%s\"", length, head->minor,
           METHODS[head->method], head->status, FRAMINGS[head->framing]);
    printf(", \"content_length\": %llu, \"keep_alive\": %s, \"expect_continue\": %s",
           (unsigned long long)head->content_length, head->keep_alive ? "true" : "false",
           head->expect_continue ? "true" : "false");
    printf(", \"upgrade\": %s, \"interim\": %s", head->upgrade ? "true" : "false", head->interim ? "true" : "false");
    print_slice("verb", head->verb);
    print_slice("target", head->target);
    print_slice("path", head->path);
    print_slice("host", head->host);
    print_slice("upgrade_to", head->upgrade_to);
    print_fields(head);
    print_forwarded(head, bytes, length);
    printf("}\n");
}

static void print_refused(const struct task *task, unsigned reason)
{
    enum http1_side side = task->part == PART_RESPONSE ? HTTP1_RESPONSE : HTTP1_REQUEST;
    printf("{\"refused\": \"%s\", \"status\": %u}\n", http1_reason_name(reason), http1_reason_status(reason, side));
}

static void judge(const struct task *task, const uint8_t *bytes, size_t length)
{
    struct outcome out;
    const char *how = disagreement(task, bytes, length, &out);
    if (how)
        printf("{\"disagree\": \"%s\"}\n", how);
    else if (out.got < 0)
        print_refused(task, (unsigned)-out.got);
    else if (task->part == PART_CHUNKED)
        printf("{\"consumed\": %td, \"done\": %s}\n", out.got, out.done ? "true" : "false");
    else if (out.got == 0)
        printf("{\"pending\": true}\n");
    else
        print_head(&out.head, bytes, (size_t)out.got);
    fflush(stdout);
}

static int list_reasons(void)
{
    for (unsigned reason = 1; reason < HTTP1_REASON_COUNT; reason++)
        printf("%s %u %u\n", http1_reason_name(reason), http1_reason_status(reason, HTTP1_REQUEST),
               http1_reason_status(reason, HTTP1_RESPONSE));
    return http1_reason_name(0) || http1_reason_name(HTTP1_REASON_COUNT);
}

int main(int count, char **arguments)
{
    static uint8_t bytes[ROOM_BYTES];
    struct {
        uint8_t part, method, upgrade, unused;
        uint32_t length;
    } frame;
    (void)arguments;
    if (count > 1)
        return list_reasons();
    while (fread(&frame, sizeof frame, 1, stdin) == 1) {
        if (frame.length > sizeof bytes || fread(bytes, 1, frame.length, stdin) != frame.length)
            return 2;
        struct task task = {frame.part, frame.method, frame.upgrade};
        judge(&task, bytes, frame.length);
    }
    return 0;
}
