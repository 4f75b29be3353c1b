/* Who may call a pod: Istio's AuthorizationPolicy, compiled into arrays, and the pure functions that judge by them.
 * Read by the compiler and by cffi (build_engine.py), so: plain declarations and numeric defines only.
 *
 * What it means is written down in mesh/identity/authz.py; a test compares the two. Nothing here allocates, keeps or
 * counts anything; the work is bounded by the arrays' lengths. */
#ifndef SEINE_AUTHZ_H
#define SEINE_AUTHZ_H

#include <stddef.h>
#include <stdint.h>

#define AUTHZ_DENY 0 /* in the order in which a set has its policies */
#define AUTHZ_ALLOW 1
#define AUTHZ_AUDIT 2

#define AUTHZ_EXACT 0
#define AUTHZ_PREFIX 1
#define AUTHZ_SUFFIX 2
#define AUTHZ_PRESENT 3

/* What is known of a connection beyond its ends. */
#define AUTHZ_TCP 0    /* it is not HTTP, or not looked into: ALLOW rules that need HTTP do not match, others match more */
#define AUTHZ_HTTP 1   /* a request */
#define AUTHZ_PASSED 2 /* it was a request, which nobody remembers: what its rules said of HTTP holds, in favour of it */

struct authz_range { /* of one of the arrays below */
    uint32_t first;
    uint32_t count;
};

struct authz_text {
    uint32_t at; /* in `bytes` */
    uint16_t length;
    uint8_t how; /* AUTHZ_EXACT ... */
};

struct authz_block {
    uint8_t ip[16];
    uint8_t bits; /* of the 128: an IPv4 block has 96 or more, and an IPv6 block holds no IPv4 address */
};

struct authz_source {
    struct authz_range principals, not_principals; /* texts, without spiffe:// */
    struct authz_range namespaces, not_namespaces; /* texts */
    struct authz_range blocks, not_blocks;
};

struct authz_operation {
    struct authz_range hosts, not_hosts; /* texts in small letters */
    struct authz_range methods, not_methods;
    struct authz_range paths, not_paths;
    struct authz_range ports, not_ports;
};

struct authz_rule {
    struct authz_range sources, operations;
};

struct authz_policy {
    uint64_t id;
    struct authz_range rules;
    uint8_t action;
    uint8_t dry_run;
};

struct authz { /* all that is said about one pod */
    const struct authz_policy *policies; /* DENY, ALLOW, AUDIT */
    const struct authz_rule *rules;
    const struct authz_source *sources;
    const struct authz_operation *operations;
    const struct authz_text *texts;
    const struct authz_block *blocks;
    const uint16_t *ports;
    const uint8_t *bytes;
    uint32_t policy_count, rule_count, source_count, operation_count, text_count, block_count, port_count, byte_count;
    uint8_t default_deny; /* also where no ALLOW policy is */
};

struct authz_span {
    const uint8_t *at;
    size_t length;
};

struct authz_facts {
    const char *identity; /* SPIFFE id; NULL: none was proven */
    uint8_t client[16];
    uint16_t port;        /* of the pod */
    uint8_t known;        /* AUTHZ_TCP ... */
    struct authz_span method, host, path; /* of AUTHZ_HTTP, in normal form but for the host's case */
};

struct authz_ruling {
    int32_t policy; /* by which; -1: by none: no ALLOW policy matched, or there is none */
    int32_t rule;   /* of that policy */
    uint8_t allowed;
};

/* Whether every range is within its array and every number one that there is; only then may the others be called. */
int authz_valid(const struct authz *);

/* The first rule of a policy that matches; -1: none. */
int32_t authz_match(const struct authz *, uint32_t policy, const struct authz_facts *);

/* The verdict. `trial`: as if dry-run policies were in force too. */
struct authz_ruling authz_check(const struct authz *, const struct authz_facts *, int trial);

/* Whether any rule looks at what only HTTP has, and at paths or hosts, which then must have a normal form. */
int authz_needs_http(const struct authz *);
int authz_needs_paths(const struct authz *);
int authz_needs_hosts(const struct authz *);

#endif
