/*
 * The last plugin of a node's CNI chain: before a pod's first packet it tells the node's agent, and waits until the
 * pod is in the mesh, DEADLINE_MS at most. It changes nothing itself; its result is the result before it, untouched.
 *
 * Bias: a pod starts. When the agent is away, hangs or talks nonsense the pod starts outside of the mesh, and the
 * agent takes it in when it is back. Only for a namespace that the agent has named `closed` in a file of rules, and
 * for a pod that the agent itself refuses, the answer is "try again later", which kubelet does. Seine's own namespace
 * is never held up, or agent and workers would wait for each other.
 *
 * Everything but ADD has nothing to do: what we know of a pod ends with its network namespace. STATUS is good as long
 * as this program runs, because it needs nobody. Source: CNI specification 1.1.0.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ask.h"
#include "json.h"
#include "rules.h"

enum { STDIN_MAX = 1 << 20 }; /* a configuration with its result has 4 KiB */

/* Codes of the specification. */
enum code { BAD_ENVIRONMENT = 4, IO_FAILED = 5, NOT_DECODED = 6, BAD_CONFIGURATION = 7, TRY_AGAIN_LATER = 11 };

static char input[STDIN_MAX + 1];
static struct text version = {"\"1.0.0\"", 7};

static int fail(enum code code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The specification's error object; what would break its string is replaced. */
static int fail(enum code code, const char *format, ...)
{
    char sentence[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof(sentence), format, arguments);
    va_end(arguments);
    for (char *at = sentence; *at; at++)
        if ((unsigned char)*at < 0x20 || (unsigned char)*at > 0x7e || *at == '"' || *at == '\\')
            *at = '?';
    printf("{\"cniVersion\":%.*s,\"code\":%d,\"msg\":\"seine: %s\"}\n", (int)version.length, version.start, code, sentence);
    return 1;
}

/* -1: it cannot be read; STDIN_MAX + 1: there is more than we take. */
static ssize_t read_input(void)
{
    size_t length = 0;
    while (length <= STDIN_MAX) {
        ssize_t got = read(STDIN_FILENO, input + length, STDIN_MAX + 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (!got)
            break;
        length += (size_t)got;
    }
    return (ssize_t)length;
}

static int pass(struct text result)
{
    if (fwrite(result.start, 1, result.length, stdout) != result.length || putchar('\n') < 0 || fflush(stdout))
        return 1;
    return 0;
}

/* A path or name of our own configuration, as a C string. */
static bool copy_plain(struct text value, char *out, size_t size)
{
    struct text inside;
    if (!value.start || !json_plain(value, &inside) || inside.length >= size)
        return false;
    memcpy(out, inside.start, inside.length);
    out[inside.length] = 0;
    return true;
}

static int refuse(struct asked *asked, const char *namespace)
{
    if (asked->verdict == REFUSED)
        return fail(TRY_AGAIN_LATER, "%s", asked->sentence);
    return fail(TRY_AGAIN_LATER, "the agent of this node does not answer (%s), and no pod of namespace %s may start "
                "outside of the mesh", asked->sentence, namespace);
}

static int add(struct text whole, const struct member *found)
{
    enum { PREVIOUS = 1, SOCKET, RULES, EXEMPT };
    char socket[PATH_BYTES], rules[PATH_BYTES], exempt[NAME_BYTES], namespace[NAME_BYTES];
    if (!found[PREVIOUS].value.start || *found[PREVIOUS].value.start != '{')
        return fail(BAD_CONFIGURATION, "there is no prevResult: this plugin must come after the one that makes the network");
    if (!copy_plain(found[SOCKET].value, socket, sizeof(socket)) || !copy_plain(found[RULES].value, rules, sizeof(rules)) ||
        !copy_plain(found[EXEMPT].value, exempt, sizeof(exempt)))
        return fail(BAD_CONFIGURATION, "socket, rules and exempt must be plain strings");
    if (!argument("K8S_POD_NAMESPACE", namespace, sizeof(namespace)) || !strcmp(namespace, exempt))
        return pass(found[PREVIOUS].value); /* not of Kubernetes, or our own */
    struct asked asked;
    ask(socket, whole, &asked);
    if (asked.verdict == REFUSED || (asked.verdict == AWAY && is_closed(rules, namespace)))
        return refuse(&asked, namespace);
    if (asked.verdict == AWAY)
        fprintf(stderr, "seine: a pod of namespace %s starts without the agent: %s\n", namespace, asked.sentence);
    return pass(found[PREVIOUS].value);
}

int main(void)
{
    struct member found[] = {{.name = "cniVersion"}, {.name = "prevResult"}, {.name = "socket"},
                             {.name = "rules"}, {.name = "exempt"}};
    const char *command = getenv("CNI_COMMAND");
    ssize_t length = read_input();
    if (length < 0)
        return fail(IO_FAILED, "the configuration cannot be read: %s", strerror(errno));
    struct text whole = {input, (size_t)length};
    if (length > STDIN_MAX || !json_members(whole, found, sizeof(found) / sizeof(*found)))
        return fail(NOT_DECODED, "the configuration is no JSON object of at most %d bytes", STDIN_MAX);
    struct text plain;
    if (found[0].value.start && json_plain(found[0].value, &plain))
        version = found[0].value;
    if (!command)
        return fail(BAD_ENVIRONMENT, "CNI_COMMAND is not set: container runtimes call this program, not people");
    if (!strcmp(command, "ADD"))
        return add(whole, found);
    if (!strcmp(command, "VERSION")) {
        printf("{\"cniVersion\":%.*s,\"supportedVersions\":[\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n",
               (int)version.length, version.start);
        return 0;
    }
    if (!strcmp(command, "DEL") || !strcmp(command, "CHECK") || !strcmp(command, "GC") || !strcmp(command, "STATUS"))
        return 0;
    return fail(BAD_ENVIRONMENT, "CNI_COMMAND is %.40s, which is not known here", command);
}
