/* Nanoseconds per head, each complete in one call, cycling through copies at changing alignments.
 *
 *   gcc -O2 -std=gnu11 -D_GNU_SOURCE -Icext tests/engine/http1/bench.c cext/http1*.c -o /tmp/bench && /tmp/bench
 *
 * With -DLLHTTP, its include directory and its C files (llhttp.c, api.c, http.c) llhttp runs beside it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http1.h"
#ifdef LLHTTP
#include "llhttp.h"
#endif

#define COPIES 64
#define ROUNDS 1024
#define SAMPLES 400

struct head_case {
    const char *name;
    enum http1_side side;
    const char *text;
};

#define BROWSER \
    "GET /catalogue/images/2024/08/lamp-large.jpg?width=1280&quality=85&format=webp&v=7f3a9c HTTP/1.1\r\n" \
    "Host: shop.example.internal:8080\r\nConnection: keep-alive\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n" \
    "sec-ch-ua: \"Chromium\";v=\"128\", \"Not;A=Brand\";v=\"24\", \"Google Chrome\";v=\"128\"\r\n" \
    "sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n" \
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36\r\n" \
    "Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8\r\nSec-Fetch-Site: same-origin\r\n" \
    "Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\nReferer: http://shop.example.internal:8080/catalogue/\r\n" \
    "Accept-Encoding: gzip, deflate\r\nAccept-Language: en-GB,en;q=0.9,de;q=0.8\r\n" \
    "Cookie: session=0123456789abcdef; theme=dark\r\n\r\n"

static const struct head_case CASES[] = {
    {"wrk", HTTP1_REQUEST, "GET /index.html HTTP/1.1\r\nHost: 10.96.12.34:8080\r\n\r\n"},
    {"curl", HTTP1_REQUEST,
     "GET /api/items?page=2 HTTP/1.1\r\nHost: web.shop.svc.cluster.local\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"},
    {"post", HTTP1_REQUEST,
     "POST /api/orders HTTP/1.1\r\nHost: orders:8080\r\nUser-Agent: python-requests/2.31\r\nAccept: */*\r\n"
     "Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: 84\r\n\r\n"},
    {"browser", HTTP1_REQUEST, BROWSER},
    {"nginx", HTTP1_RESPONSE,
     "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Fri, 28 Aug 2026 10:20:30 GMT\r\nContent-Type: text/html\r\n"
     "Content-Length: 100\r\nLast-Modified: Thu, 27 Aug 2026 08:00:00 GMT\r\nConnection: keep-alive\r\n"
     "ETag: \"66cd8a80-64\"\r\nAccept-Ranges: bytes\r\n\r\n"},
};

static double now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

static int ours(enum http1_side side, const char *text, size_t length)
{
    struct http1_head head;
    http1_start(&head);
    const uint8_t *bytes = (const uint8_t *)text;
    return side == HTTP1_REQUEST ? http1_request(&head, bytes, length)
                                 : http1_response(&head, bytes, length, HTTP1_GET, false);
}

#ifdef LLHTTP
static int on_span(llhttp_t *parser, const char *at, size_t length)
{
    (void)parser, (void)at, (void)length;
    return 0;
}

static int pause_after_head(llhttp_t *parser)
{
    (void)parser;
    return HPE_PAUSED;
}

static int theirs(enum http1_side side, const char *text, size_t length)
{
    static llhttp_settings_t settings;
    llhttp_t parser;
    settings.on_url = settings.on_header_field = settings.on_header_value = on_span;
    settings.on_headers_complete = pause_after_head;
    llhttp_init(&parser, side == HTTP1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
    return llhttp_execute(&parser, text, length) == HPE_PAUSED;
}
#endif

/* The best of some samples: what others do on the machine only ever adds. */
static double measure(int (*parse)(enum http1_side, const char *, size_t), const struct head_case *test)
{
    static char store[COPIES * 2048];
    size_t length = strlen(test->text);
    double best = 1e18;
    for (int i = 0; i < COPIES; i++)
        memcpy(store + i * 2048 + i % 16, test->text, length);
    for (int sample = 0; sample < SAMPLES; sample++) {
        double began = now_ns();
        for (int i = 0; i < ROUNDS; i++)
            if (parse(test->side, store + i % COPIES * 2048 + i % COPIES % 16, length) <= 0)
                abort();
        double took = (now_ns() - began) / ROUNDS;
        best = took < best ? took : best;
    }
    return best;
}

int main(void)
{
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        printf("%-8s %4zu bytes  ours %6.1f ns", CASES[i].name, strlen(CASES[i].text), measure(ours, CASES + i));
#ifdef LLHTTP
        printf("  llhttp %6.1f ns", measure(theirs, CASES + i));
#endif
        puts("");
    }
    return 0;
}
