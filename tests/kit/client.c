/* A TCP client that connects the ways real runtimes do and prints what it then sees as one line of JSON.
 *
 *   client plain ADDRESS PORT          one blocking socket of the address's own family (C, Python, PostgreSQL)
 *   client java  ADDRESS PORT          an AF_INET6 socket with V6ONLY off, IPv4 as ::ffff:a.b.c.d, connect with poll (every JVM)
 *   client go    ADDRESS6 ADDRESS4 PORT  Happy Eyeballs: non-blocking IPv6, IPv4 beside it after 300 ms or at its failure (Go)
 *   client race  ADDRESS6 ADDRESS4 PORT  both at once, the first connected wins
 *   client bound LOCAL ADDRESS PORT    as plain, but bound to LOCAL (port 0) first
 *
 * The environment's SAY is sent as a line when set; then one line is read. Every step has 3 s.
 * Output: {"peer": "IP", "peer_port": N, "local": "IP", "local_port": N, "family": "inet", "error": "", "reply": ""}
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DEADLINE_MS = 3000, EYEBALLS_MS = 300 };

struct target {
  struct sockaddr_storage address;
  socklen_t size;
};

static struct target parse(const char *text, int port) {
  struct target t = {0};
  struct sockaddr_in *v4 = (void *)&t.address;
  struct sockaddr_in6 *v6 = (void *)&t.address;
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET, v4->sin_port = htons(port), t.size = sizeof *v4;
  } else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6, v6->sin6_port = htons(port), t.size = sizeof *v6;
  } else {
    fprintf(stderr, "not an address: %s\n", text);
    exit(2);
  }
  return t;
}

static struct target mapped(const char *text, int port) {
  char name[64];
  snprintf(name, sizeof name, "%s%s", strchr(text, ':') ? "" : "::ffff:", text);
  return parse(name, port);
}

static int open_socket(int family, int only_v6) {
  int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6);
  struct timeval limit = {DEADLINE_MS / 1000, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  return fd;
}

/* The connected socket, or -1 with errno. */
static int connect_blocking(int fd, const struct target *t) {
  return fd >= 0 && connect(fd, (const void *)&t->address, t->size) == 0 ? fd : -1;
}

static void set_blocking(int fd, int blocking) {
  int flags = fcntl(fd, F_GETFL);
  fcntl(fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

/* The error of a finished non-blocking connect, as runtimes find it: SO_ERROR. */
static int outcome(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

/* Begin a connect; 0 when it is under way or done, else its errno. */
static int begin(int fd, const struct target *t) {
  set_blocking(fd, 0);
  return connect(fd, (const void *)&t->address, t->size) == 0 || errno == EINPROGRESS ? 0 : errno;
}

/* Try `n` targets, each beside the ones before it after `stagger_ms` or at once when those have failed. */
static int connect_eyeballs(const struct target *targets, int n, int only_v6, int stagger_ms) {
  struct pollfd waiting[2];
  int started = 0, open = 0, last = ETIMEDOUT;
  for (int spent = 0; spent < DEADLINE_MS; spent += 10) {
    while (started < n && (open == 0 || spent >= started * stagger_ms)) {
      const struct target *t = &targets[started];
      int fd = open_socket(t->address.ss_family, only_v6), error = begin(fd, t);
      waiting[started++] = (struct pollfd){.fd = error ? -1 : fd, .events = POLLOUT};
      if (error) last = error, close(fd);
      else open++;
    }
    if (open == 0) break;
    poll(waiting, started, 10);
    for (int i = 0; i < started; i++) {
      if (waiting[i].fd < 0 || !waiting[i].revents) continue;
      int error = outcome(waiting[i].fd);
      if (!error) return set_blocking(waiting[i].fd, 1), waiting[i].fd;
      last = error, close(waiting[i].fd), waiting[i].fd = -1, open--;
    }
  }
  errno = last;
  return -1;
}

static void print_name(const char *key, const struct sockaddr_storage *address) {
  char text[INET6_ADDRSTRLEN] = "";
  const struct sockaddr_in *v4 = (const void *)address;
  const struct sockaddr_in6 *v6 = (const void *)address;
  int is4 = address->ss_family == AF_INET;
  inet_ntop(address->ss_family, is4 ? (const void *)&v4->sin_addr : (const void *)&v6->sin6_addr, text, sizeof text);
  printf("\"%s\": \"%s\", \"%s_port\": %d, ", key, text, key, ntohs(is4 ? v4->sin_port : v6->sin6_port));
}

static void exchange(int fd, char *reply, size_t size) {
  const char *say = getenv("SAY");
  if (say) dprintf(fd, "%s\n", say);
  size_t have = 0;
  while (have + 1 < size && !memchr(reply, '\n', have)) {
    ssize_t n = recv(fd, reply + have, size - 1 - have, 0);
    if (n <= 0) break;
    have += n;
  }
  reply[have] = 0;
}

/* JSON is our own servers' reply already, so only quotes and line ends need care. */
static void print_text(const char *text) {
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') printf("\\%c", *text);
    else if (*text >= ' ') putchar(*text);
  }
}

static void report(int fd) {
  struct sockaddr_storage peer = {0}, local = {0};
  socklen_t size = sizeof peer;
  int error = fd < 0 ? errno : 0;
  char reply[4096] = "";
  if (fd >= 0 && getpeername(fd, (void *)&peer, &size) != 0) error = errno;
  size = sizeof local;
  if (fd >= 0) getsockname(fd, (void *)&local, &size), exchange(fd, reply, sizeof reply);
  putchar('{');
  if (fd >= 0) print_name("peer", &peer), print_name("local", &local);
  printf("\"family\": \"%s\", \"error\": \"%s\", \"reply\": \"", local.ss_family == AF_INET6 ? "inet6" : "inet",
         error ? strerrorname_np(error) : "");
  print_text(reply);
  puts("\"}");
}

int main(int argc, char **argv) {
  const char *way = argc > 1 ? argv[1] : "";
  if (argc == 4 && !strcmp(way, "plain")) {
    struct target t = parse(argv[2], atoi(argv[3]));
    report(connect_blocking(open_socket(t.address.ss_family, 0), &t));
  } else if (argc == 4 && !strcmp(way, "java")) {
    struct target t = mapped(argv[2], atoi(argv[3]));
    report(connect_eyeballs(&t, 1, 0, 0));
  } else if (argc == 5 && (!strcmp(way, "go") || !strcmp(way, "race"))) {
    struct target both[2] = {parse(argv[2], atoi(argv[4])), parse(argv[3], atoi(argv[4]))};
    report(connect_eyeballs(both, 2, 1, *way == 'g' ? EYEBALLS_MS : 0));
  } else if (argc == 5 && !strcmp(way, "bound")) {
    struct target local = parse(argv[2], 0), t = parse(argv[3], atoi(argv[4]));
    int fd = open_socket(t.address.ss_family, 0);
    report(bind(fd, (void *)&local.address, local.size) == 0 ? connect_blocking(fd, &t) : -1);
  } else {
    fprintf(stderr, "usage: client plain|java|go|race|bound ADDRESS... PORT\n");
    return 2;
  }
  return 0;
}
