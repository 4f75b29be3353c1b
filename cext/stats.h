/* Counters in a file shared with the agent: this worker is its only writer, by plain stores of aligned words.
 *
 * Layout: header, then counters[], then at STATS_POLICIES_OFFSET what policies said, an array that ends with the first
 * id of 0 after its first, then at STATS_SERIES_OFFSET a dense array of series, of which the first
 * `series_count` are valid. Series 0 is the overflow: it takes what comes when no place is left, see retire.c.
 * A successor with the same layout continues where the dead one stopped and zeroes the gauges; any difference
 * of layout makes the file anew. Readers trust nothing in it and validate every number. */
#ifndef SEINE_STATS_H
#define SEINE_STATS_H

#include <stdint.h>

#include "http1.h"

#define STATS_MAGIC 0x53454e4945535441ull
#define STATS_VERSION 3
#define STATS_POLICIES_OFFSET 4096
#define STATS_POLICIES_MAX 512 /* about the pods of one node; the first is no policy's */
#define STATS_SERIES_OFFSET 28672
#define STATS_SERIES_MAX 4097 /* 4096 and the overflow */

/* Histogram of microseconds: exact below 16, then 8 buckets per octave up to 2^27 us (134 s), then one more. */
#define STATS_SUB_BITS 3
#define STATS_OCTAVES_MAX 27
#define STATS_BUCKETS (((STATS_OCTAVES_MAX - STATS_SUB_BITS + 1) << STATS_SUB_BITS) + 1)

/* Name, and whether it is a gauge. The one list of what the engine counts outside the series. */
#define STATS_COUNTERS(X) \
    X(pumps, 0) \
    X(events, 0) \
    X(budget_spent, 0) \
    X(accepted, 0) \
    X(adopted, 0) \
    X(accept_aborted, 0) \
    X(accept_no_descriptors, 0) \
    X(accept_limited, 0) \
    X(accept_failed, 0) \
    X(accept_yielded, 0) \
    X(loop, 0) \
    X(canary, 0) \
    X(no_destination, 0) \
    X(no_memory, 0) \
    X(epoll_failed, 0) \
    X(need_plan, 0) \
    X(need_sockets, 0) \
    X(events_dropped, 0) \
    X(park_limited, 0) \
    X(park_timeout, 0) \
    X(passed_through, 0) \
    X(plan_missing, 0) \
    X(wait_limited, 0) \
    X(wait_timeout, 0) \
    X(waited, 0) \
    X(stock_refused, 0) \
    X(stock_surplus, 0) \
    X(no_pod, 0) \
    X(note_unsupported, 0) \
    X(note_failed, 0) \
    X(dialled, 0) \
    X(dial_refused, 0) \
    X(dial_timeout, 0) \
    X(dial_unreachable, 0) \
    X(dial_failed, 0) \
    X(dial_denied, 0) \
    X(dial_retried, 0) \
    X(pool_reused, 0) \
    X(pool_limited, 0) \
    X(pool_ended, 0) \
    X(pool_idle_timeout, 0) \
    X(pool_dropped, 0) \
    X(http_requests, 0) \
    X(http_repeated, 0) \
    X(http_local_replies, 0) \
    X(http_reply_unsent, 0) \
    X(http_early_response, 0) \
    X(http_surplus, 0) \
    X(http_upgraded, 0) \
    X(http_head_timeout, 0) \
    X(http_stalled, 0) \
    X(http_too_many_interim, 0) \
    X(http_overloaded, 0) \
    X(http_linger_limited, 0) \
    X(no_endpoint, 0) \
    X(detected_http1, 0) \
    X(detected_http2, 0) \
    X(detected_tls, 0) \
    X(detected_other, 0) \
    X(detect_timeout, 0) \
    X(server_first, 0) \
    X(idle_timeout, 0) \
    X(client_reset, 0) \
    X(server_reset, 0) \
    X(local_reset, 0) \
    X(buffers_starved, 0) \
    X(stuck_ended, 0) \
    X(idle_reclaimed, 0) \
    X(series_overflow, 0) \
    X(series_retired, 0) \
    X(plaintext_refused, 0) \
    X(tunnels_dialled, 0) \
    X(tunnels_accepted, 0) \
    X(tunnel_limited, 0) \
    X(tunnel_no_identity, 0) \
    X(tunnel_unreachable, 0) \
    X(tunnel_held_back, 0) \
    X(tunnel_broken, 0) \
    X(tunnel_cut, 0) \
    X(tunnel_silent, 0) \
    X(tunnel_idle, 0) \
    X(tunnel_denied, 0) \
    X(tunnel_distrusted, 0) \
    X(tunnel_sent_bytes, 0) \
    X(tunnel_received_bytes, 0) \
    X(tls_handshakes, 0) \
    X(tls_resumed, 0) \
    X(tls_update_flood, 0) \
    X(tls_timeout, 0) \
    X(tls_signatures, 0) \
    X(tls_signature_refused, 0) \
    X(signer_lost, 0) \
    X(h2_head_too_large, 0) \
    X(h2_reset_flood, 0) \
    X(h2_no_buffer, 0) \
    X(h2_held_limited, 0) \
    X(h2_swept, 0) \
    X(hbone_streams, 0) \
    X(hbone_bad_request, 0) \
    X(hbone_refused, 0) \
    X(hbone_address_mismatch, 0) \
    X(policies_overflow, 0) \
    X(policy_ended, 0) \
    X(policy_waited, 0) \
    X(identity_denied, 0) \
    X(identity_ended, 0) \
    X(path_rewritten, 0) \
    X(path_ambiguous, 0) \
    X(rulings_dropped, 0) \
    X(carry_asked, 0) \
    X(carry_by_hbone, 0) \
    X(carry_refused, 0) \
    X(carry_timeout, 0) \
    X(carry_arrived, 0) \
    X(connections, 1) \
    X(tunnels, 1) \
    X(handshakes, 1) \
    X(upstreams, 1) \
    X(pooled, 1) \
    X(parked, 1) \
    X(waiting, 1) \
    X(buffers, 1) \
    X(buffers_kept, 1) \
    X(stock, 1) \
    X(plans, 1) \
    X(signer, 1) \
    X(draining, 1)

/* Why the handshake of a tunnel failed, for people too. */
#define TLS_REASONS(X) \
    X(no_certificate, "the peer has no certificate") \
    X(expired, "the peer's certificate has expired") \
    X(not_yet_valid, "the peer's certificate is not valid yet: whose clock is wrong?") \
    X(chain, "the peer's certificates are more, or more bytes, than a chain of ours may be") \
    X(weak, "a certificate of the peer's has a key or a signature that is too weak") \
    X(untrusted, "no root that we believe vouches for the peer's certificate") \
    X(not_a_leaf, "the peer's certificate is a certificate authority's, or not for this use") \
    X(not_spiffe, "the peer's certificate does not hold exactly one SPIFFE id of a service account") \
    X(trust_domain, "the peer is of another trust domain") \
    X(identity, "the peer is not who should be at that address") \
    X(denied, "the peer's identity or certificate is on the list of denied ones") \
    X(version, "the peer does not speak TLS 1.3") \
    X(alpn, "the peer does not speak HTTP/2") \
    X(algorithms, "the peer offers no cipher, group or signature that we use") \
    X(unsigned, "the signer did not sign our part of the handshake") \
    X(told, "the peer refused us, and said so by an alert") \
    X(broken, "the peer broke the protocol, or the connection")
#define TLS_REASON_ENUM(name, text) TLS_##name,
enum tls_reason { TLS_FINE, TLS_REASONS(TLS_REASON_ENUM) TLS_REASON_COUNT };

#define STATS_ENUM(name, gauge) COUNTER_##name,
#define STATS_BAD_REQUEST_ENUM(name, status) COUNTER_bad_request_##name,
#define STATS_BAD_RESPONSE_ENUM(name, status) COUNTER_bad_response_##name,
#define STATS_TLS_ENUM(name, text) COUNTER_tls_failed_##name,
enum counter {
    STATS_COUNTERS(STATS_ENUM) /* and by each reason of http1.h: */
    HTTP1_REASONS(STATS_BAD_REQUEST_ENUM)
    HTTP1_REASONS(STATS_BAD_RESPONSE_ENUM)
    TLS_REASONS(STATS_TLS_ENUM)
    COUNTER_COUNT
};

/* How a connection or request ended: Envoy's response flags. */
#define STATS_FLAGS(X) \
    X(NONE, "-")   /* as it should */ \
    X(DC, "DC")    /* the client reset it */ \
    X(UC, "UC")    /* the server reset it */ \
    X(UF, "UF")    /* no endpoint could be connected to */ \
    X(UH, "UH")    /* the plan has no endpoint */ \
    X(UO, "UO")    /* a limit of ours */ \
    X(LR, "LR")    /* closed by command: the pod is gone */ \
    X(SI, "SI")    /* idle for too long */ \
    X(DPE, "DPE")  /* the client broke the protocol */ \
    X(UPE, "UPE")  /* the server broke the protocol */ \
    X(UT, "UT")    /* the server took too long */ \
    X(NR, "NR")    /* no route */ \
    X(UAEX, "UAEX") /* a policy denies it */

#define STATS_FLAG_ENUM(name, text) FLAG_##name,
enum flag { STATS_FLAGS(STATS_FLAG_ENUM) FLAG_COUNT };

/* What was spoken, as far as it was looked at. */
#define STATS_PROTOCOLS(X) X(TCP, "tcp") X(TLS, "tls") X(HTTP1, "http1") X(HTTP2, "http2")
#define STATS_PROTOCOL_ENUM(name, text) SPOKEN_##name,
enum spoken { STATS_PROTOCOLS(STATS_PROTOCOL_ENUM) SPOKEN_COUNT };
#define SPOKEN_HOLE 255 /* of a series that is nobody's: readers leave it out */

/* What protected it on the way from node to node. */
#define STATS_SECURITIES(X) X(NONE, "none") X(MUTUAL_TLS, "mutual_tls")
#define STATS_SECURITY_ENUM(name, text) SECURITY_##name,
enum security { STATS_SECURITIES(STATS_SECURITY_ENUM) SECURITY_COUNT };

struct series_key {
    uint64_t source;
    uint64_t service;
    uint64_t endpoint;
    uint16_t code;
    uint8_t direction;
    uint8_t protocol; /* enum spoken */
    uint8_t flag;     /* enum flag */
    uint8_t security; /* enum security */
    uint8_t unused[2];
};

/* `count` and the histogram: finished connections or requests and how long they took. */
struct series {
    struct series_key key;
    uint64_t count;
    uint64_t opened;
    uint64_t closed;
    uint64_t request_bytes;
    uint64_t response_bytes;
    uint64_t sum_ns;
    uint64_t histogram[STATS_BUCKETS];
};

/* What a policy said of a connection or request. WOULD: if its dry run were none. */
#define STATS_VERDICTS(X) \
    X(ALLOWED, "allowed") X(DENIED, "denied") X(AUDITED, "audited") X(WOULD_ALLOW, "would_allow") X(WOULD_DENY, "would_deny")
#define STATS_VERDICT_ENUM(name, text) VERDICT_##name,
enum verdict { STATS_VERDICTS(STATS_VERDICT_ENUM) VERDICT_COUNT };

struct policy_counts {
    uint64_t policy;
    uint64_t counts[VERDICT_COUNT];
};

struct stats_file {
    uint64_t magic;
    uint64_t layout;
    uint32_t version;
    uint32_t series_count;
    uint64_t counters[COUNTER_COUNT];
};

#define STATS_INDEX_SIZE 16384 /* power of two; at most a quarter is used */

/* A mapped file and what its writer knows about it. */
struct stats {
    struct stats_file *file;
    struct policy_counts *policies;
    struct series *series;
    uint16_t index[STATS_INDEX_SIZE]; /* 0: free, else the number of a series */
    uint16_t spare[STATS_SERIES_MAX]; /* retired ones that may be used again */
    uint32_t spare_count;
    uint64_t seen[STATS_SERIES_MAX]; /* by retire.c, at its last look */
};

/* Maps the file, continuing or making it. NULL: errno says why. */
struct stats *stats_open(int fd);
void stats_close(struct stats *);
uint64_t *stats_counters(struct stats *);

/* Finds or adds a series; the overflow when there is no room. Never NULL, valid until stats_close. */
struct series *stats_series(struct stats *, const struct series_key *);

static inline uint32_t stats_number(const struct stats *stats, const struct series *series)
{
    return (uint32_t)(series - stats->series);
}

/* Makes the index anew, and the list of those that may be used again, from the keys. */
void stats_index(struct stats *);
void stats_spare(struct stats *);

/* Finds or adds the counts of a policy; those of id 0 are the first's. `uses`, of each: when there is no room, those of a
 * policy that nobody uses are given away (NULL: none are). NULL: all are in use. */
struct policy_counts *stats_policy(struct stats *, uint64_t id, const uint32_t *uses);

/* Adds one finished thing and its duration. */
void series_record(struct series *, uint64_t duration_ns);

uint32_t stats_bucket(uint64_t duration_ns);

#endif
