/* See ask.h. */
#define _GNU_SOURCE /* struct ucred */
#include "ask.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char *const variables[] = {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"};
enum { VARIABLES = sizeof(variables) / sizeof(*variables), VARIABLES_BYTES = 8192 };

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What the next call on the socket may take; false when the time is over. */
static bool allow(int sock, long deadline)
{
    long left = deadline - now_ms();
    struct timeval time = {left / 1000, left % 1000 * 1000};
    if (left <= 0) {
        errno = EAGAIN;
        return false;
    }
    return !setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time)) &&
           !setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time));
}

static bool connect_to(int sock, const char *path, long deadline)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct ucred peer;
    socklen_t size = sizeof(peer);
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return false;
    }
    strcpy(address.sun_path, path);
    if (!allow(sock, deadline) || connect(sock, (struct sockaddr *)&address, sizeof(address)))
        return false;
    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size))
        return false;
    errno = EPERM;
    return peer.uid == 0;
}

/* The first byte carries the descriptor. */
static bool send_first(int sock, const void *data, size_t length, int descriptor)
{
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control = {0};
    struct iovec piece = {(void *)data, length};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    return sendmsg(sock, &message, MSG_NOSIGNAL) == (ssize_t)length; /* 4 bytes always fit */
}

static bool send_all(int sock, const char *data, size_t length, long deadline)
{
    while (length) {
        ssize_t sent = allow(sock, deadline) ? send(sock, data, length, MSG_NOSIGNAL) : -1;
        if (sent < 0 && errno != EINTR)
            return false;
        if (sent > 0)
            data += sent, length -= (size_t)sent;
    }
    return true;
}

/* The length of what is in `out`, or 0 when it has no room. */
static size_t write_variables(char *out)
{
    size_t length = 0;
    for (int each = 0; each < VARIABLES; each++) {
        const char *value = getenv(variables[each]);
        int wrote = snprintf(out + length, VARIABLES_BYTES - length, "%s=%s", variables[each], value ? value : "");
        length += (size_t)wrote + 1;
        if (length >= VARIABLES_BYTES)
            return 0;
    }
    out[length] = 0;
    return length + 1;
}

static bool put(int sock, struct text configuration, int netns, long deadline)
{
    char said[VARIABLES_BYTES];
    size_t length = write_variables(said);
    uint32_t total = (uint32_t)(length + configuration.length);
    errno = E2BIG;
    return length && allow(sock, deadline) && send_first(sock, &total, sizeof(total), netns) &&
           send_all(sock, said, length, deadline) && send_all(sock, configuration.start, configuration.length, deadline);
}

/* To the end of the stream: an agent that dies in the middle of a sentence has said nothing. */
static bool get(int sock, struct asked *asked, long deadline)
{
    char answer[SENTENCE_BYTES];
    size_t length = 0;
    ssize_t got;
    do {
        got = allow(sock, deadline) ? recv(sock, answer + length, sizeof(answer) - 1 - length, 0) : -1;
        if (got < 0 && errno != EINTR)
            return false;
        length += got > 0 ? (size_t)got : 0;
    } while (got && length < sizeof(answer) - 1);
    answer[length] = 0;
    errno = EBADMSG;
    if (got || !length || (answer[0] == '+' ? length != 1 : answer[0] != '-'))
        return false;
    asked->verdict = answer[0] == '+' ? STARTS : REFUSED;
    strcpy(asked->sentence, answer + 1);
    return true;
}

void ask(const char *path, struct text configuration, struct asked *asked)
{
    long deadline = now_ms() + DEADLINE_MS;
    const char *where = getenv("CNI_NETNS");
    int netns = open(where ? where : "", O_RDONLY | O_CLOEXEC);
    int sock = netns < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    asked->verdict = AWAY;
    if (sock < 0 || !connect_to(sock, path, deadline) || !put(sock, configuration, netns, deadline) ||
        !get(sock, asked, deadline))
        snprintf(asked->sentence, sizeof(asked->sentence), "%s: %s", netns < 0 ? "CNI_NETNS" : path,
                 errno == EAGAIN ? "no answer in time" : strerror(errno));
    if (sock >= 0)
        close(sock);
    if (netns >= 0)
        close(netns);
}

bool argument(const char *name, char *out, size_t size)
{
    const char *at = getenv("CNI_ARGS");
    size_t length = strlen(name);
    while (at && *at) {
        size_t whole = strcspn(at, ";");
        if (whole > length && at[length] == '=' && !strncmp(at, name, length)) {
            size_t rest = whole - length - 1;
            if (!rest || rest >= size)
                return false;
            memcpy(out, at + length + 1, rest);
            out[rest] = 0;
            return true;
        }
        at += whole + (at[whole] == ';');
    }
    return false;
}
