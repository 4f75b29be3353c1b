/* The engine's contract: what Python may call and what it gets. Read by the compiler and by cffi (build_engine.py),
 * so: plain declarations and numeric defines only.
 *
 * One engine per worker and thread: an epoll descriptor of its own that holds listeners, connections and a timerfd.
 * Python watches engine_fd() and calls engine_pump(), which never blocks; every other function is a short command.
 * Invariants:
 *  - an address is 16 bytes, IPv4 as ::ffff:a.b.c.d; ports are in host order; times in the names' units;
 *  - a descriptor given to the engine is the engine's, whatever the function answers;
 *  - a function that can fail answers 0 or a negative errno, and fails whole;
 *  - the engine invents no policy: what to do with a destination comes with its plan. */
#ifndef SEINE_ENGINE_H
#define SEINE_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#include "authz.h"

#define ENGINE_OUTBOUND 0
#define ENGINE_INBOUND 1

/* What a port is declared to speak; DETECT: the first bytes decide. */
#define ENGINE_DETECT 0
#define ENGINE_HTTP 1
#define ENGINE_HTTP2 2
#define ENGINE_TLS 3
#define ENGINE_OPAQUE 4

#define ENGINE_EWMA 0
#define ENGINE_ROUND_ROBIN 1

/* What a pod accepts: plaintext and mutual TLS, mutual TLS only, plaintext only. */
#define ENGINE_MTLS_PERMISSIVE 0
#define ENGINE_MTLS_STRICT 1
#define ENGINE_MTLS_DISABLED 2

#define ENGINE_BANNER_MAX 64
#define ENGINE_SNI_MAX 256
#define ENGINE_RULING_TEXT_MAX 320 /* longer ones are cut: they are for people */

typedef struct engine engine;

struct engine_config {
    uint64_t seed;               /* of the balancer's random source; 0 is replaced */
    uint32_t max_connections;    /* beyond it idle HTTP connections are closed, or accepting pauses: the queue is shared */
    uint32_t max_parked;         /* connections that wait for a plan; beyond it they are reset */
    uint32_t max_waiting;        /* connections that wait for a socket of the stock; beyond it they are reset */
    uint32_t max_buffers;        /* 64 KiB blocks in use; beyond it reading pauses */
    uint32_t max_tunnels;        /* connections between nodes, in and out; beyond it those that come are reset */
    uint32_t max_handshakes;     /* of those that come, under way at once; likewise */
    uint32_t max_held_bytes;     /* in one tunnel, for readers that do not read; then the one that holds most is ended */
    uint32_t stuck_ms;           /* then, who has held one for so long because its peer does not move is ended */
    uint32_t accept_batch;       /* connections taken from one listener per wake-up */
    uint32_t budget;             /* epoll events handled in one pump */
    uint32_t stock_target;       /* sockets to hold per pod and family */
    uint32_t stock_low;          /* ask for more at this level; grows with the target, which grows when it runs empty */
    uint32_t stock_wait_ms;      /* for a socket of the stock; then another endpoint is tried */
    uint32_t connect_timeout_ms;
    uint32_t detect_timeout_ms;  /* client bytes on a port declared HTTP; then it is opaque */
    uint32_t detect_hold_ms;     /* an ambiguous prefix elsewhere; then it is opaque */
    uint32_t park_timeout_ms;    /* no plan; then it goes to the original destination */
    uint32_t idle_timeout_ms;    /* no byte in either direction; of HTTP: between requests */
    uint32_t head_timeout_ms;    /* HTTP: from a request's first byte to the end of its head; then 408 */
    uint32_t stream_idle_ms;     /* HTTP: no byte in either direction during an exchange; then 504 */
    uint32_t linger_ms;          /* HTTP: after our last words, what the client still sends is discarded so long */
    uint32_t max_linger_bytes;   /* and so much */
    uint32_t pool_idle_ms;       /* of a connection to an endpoint between exchanges */
    uint32_t max_pooled;         /* such connections in all; beyond it they are closed */
    uint32_t max_pooled_per_key; /* and those of one client to one endpoint */
    uint32_t max_interim;        /* 1xx responses to one request; then 502 */
    uint32_t tunnel_handshake_ms; /* from connect to both ends proven */
    uint32_t tunnel_idle_ms;     /* without a stream; then it is closed */
    uint32_t tunnel_ping_ms;     /* nothing was heard: is it still there? */
    uint32_t tunnel_silence_ms;  /* and no answer; then it is closed */
    uint32_t backoff_ms;         /* of a listener after EMFILE, ENFILE, ENOBUFS, ENOMEM or max_connections */
    uint32_t heartbeat_ms;
    uint32_t series_idle_ms;     /* of a series, before another may have its place when places run out */
    uint32_t decay_ms;           /* of the peak EWMA */
    uint32_t default_rtt_ms;     /* of an endpoint never used */
    uint16_t outbound_port;      /* our own listeners' ports: as an original destination they mean a loop */
    uint16_t inbound_port;
    uint16_t tunnel_port;
    uint16_t canary_port;        /* answered with the banner: inbound, or outbound to a canary address */
    uint32_t banner_bytes;
    uint8_t banner[ENGINE_BANNER_MAX];
};

struct engine_pod {
    uint64_t source;              /* its id in the counters */
    const char *identity;         /* SPIFFE id, as whom its tunnels speak; NULL or empty: it has none */
    const char *principal;        /* SPIFFE id, who it is to policies of this node's pods, by the kernel's word; or none */
    const char *baggage;          /* describes it to other nodes' proxies (W3C Baggage); NULL or empty: nothing */
    const uint16_t *opaque_ports; /* connections to them are carried as they are */
    uint32_t opaque_count;
    uint32_t slot;
    uint8_t mtls;                 /* ENGINE_MTLS_* */
};

/* Events for Python. */
#define ENGINE_NEED_PLAN 1    /* connection, slot, direction, address, port: answer by set_plan or no_plan */
#define ENGINE_TUNNEL_REFUSED 4 /* slot, direction, address, port, reason (engine_tls_reason): for a log, of each one a second */
#define ENGINE_NEED_SOCKETS 2 /* slot, family (4 or 6), missing: answer by add_sockets, with none if there can be none */
#define ENGINE_RULINGS 5      /* there is something to take from engine_rulings */
#define ENGINE_NEED_CARRIER 6 /* connection, missing (a job for engine_to_carry): answer by engine_carried */
#define ENGINE_ARRIVED 7      /* connection (the job of engine_arrive), reason: HBONE's status; 200: the application is there */

struct engine_event {
    uint64_t connection;
    uint32_t kind;
    uint32_t slot;
    uint32_t missing;
    uint32_t reason;
    uint16_t port;
    uint8_t direction;
    uint8_t family;
    uint8_t address[16];
};

struct engine_endpoint {
    uint64_t id;
    uint8_t address[16];
    uint16_t port;   /* 0: the one asked for */
    const char *peer; /* SPIFFE id of who must be there: by tunnel only. NULL or empty: as it is */
    const char *node; /* its node, for a carrier that goes there by another way than HBONE; NULL or empty: by HBONE */
    int32_t slot;    /* the pod of this node that it is, dialled from inside; -1: dialled from the source pod */
    uint32_t weight; /* 0: never chosen */
};

struct engine_plan {
    uint8_t address[16];
    uint64_t service;
    uint16_t port; /* 0: any port without a plan of its own */
    uint8_t protocol;
    uint8_t balancer;
    const char *host; /* of the Service that is meant, for the other node's proxy; NULL or empty: none */
    uint32_t endpoint_count;
    const struct engine_endpoint *endpoints;
};

/* One live connection, for people who look. */
struct engine_connection {
    uint64_t id;
    uint64_t endpoint;
    uint64_t service;
    uint64_t age_ms;
    uint64_t request_bytes;
    uint64_t response_bytes;
    const char *identity; /* who the client has proven to be, empty: nobody; valid until the engine is called again */
    uint32_t slot;
    uint16_t client_port;
    uint16_t port;
    uint8_t client[16];
    uint8_t address[16];
    uint8_t direction;
    uint8_t state;    /* engine_state_name() */
    uint8_t protocol; /* engine_protocol_name() */
    char sni[ENGINE_SNI_MAX];
};

/* What a policy said of one connection or request, for people: at most once a second per policy and verdict. */
struct engine_ruling {
    uint64_t policy; /* 0: none allowed it */
    int32_t rule;    /* of that policy; -1: none */
    uint32_t missed; /* like it, since the last one that was told */
    uint32_t slot;   /* of the pod that was called */
    uint16_t client_port;
    uint16_t port;
    uint8_t client[16];
    uint8_t verdict; /* engine_verdict_name() */
    char identity[ENGINE_RULING_TEXT_MAX]; /* empty: none was proven */
    char method[ENGINE_RULING_TEXT_MAX];   /* empty: not HTTP */
    char host[ENGINE_RULING_TEXT_MAX];
    char path[ENGINE_RULING_TEXT_MAX];     /* without query */
};

/* Opens an engine that counts in `stats_fd` (a file of engine_stats_bytes(), continued if it holds our layout, else
 * made anew) and beats in `heartbeat_fd` (cells of 8 bytes, mapped; -1: none). Keeps neither descriptor.
 * NULL: errno says why. */
engine *engine_new(const struct engine_config *config, int stats_fd, int heartbeat_fd, uint32_t worker);

/* Closes every descriptor and frees everything; connections are cut. */
void engine_free(engine *);

int engine_fd(const engine *);

/* Handles ready events until there are none or the budget is spent (then the descriptor stays readable), and stores at
 * most `capacity` events. Answers how many; the rest stays for the next call and keeps the descriptor readable. */
int engine_pump(engine *, struct engine_event *events, int capacity);

/* Makes the descriptor readable. */
void engine_poke(engine *);

/* Known by its slot: updated; connections keep the identity that they began with. */
int engine_add_pod(engine *, const struct engine_pod *);

/* Which workload a client address is, and with which SPIFFE id (NULL or empty: unknown). */
int engine_add_source(engine *, const uint8_t address[16], uint64_t source, const char *identity);
void engine_remove_source(engine *, const uint8_t address[16]);

/* A listening socket of a known pod (-ENOENT: unknown), replacing the one it had. */
int engine_add_listener(engine *, uint32_t slot, uint8_t direction, int fd);

/* Closes the pod's listeners and stock; its connections too if asked, else they live on. */
void engine_remove_pod(engine *, uint32_t slot, int close_connections);

/* Unconnected non-blocking sockets made in the pod's namespace. None: there can be none now, who waits fails. */
int engine_add_sockets(engine *, uint32_t slot, uint8_t family, const int *fds, uint32_t count);
uint32_t engine_stock(const engine *, uint32_t slot, uint8_t family);

/* Who may call a known pod (-ENOENT: unknown), instead of what was said before; NULL: everybody. Copied. Open connections
 * that may not be are ended; HTTP hears it at its next request. -EINVAL: authz_valid() says no. */
int engine_set_policies(engine *, uint32_t slot, const struct authz *);

/* Takes what policies said since the last call, oldest first; after ENGINE_RULINGS. Answers how many. */
uint32_t engine_rulings(engine *, struct engine_ruling *, uint32_t capacity);

/* Takes over an accepted connection whose original destination is known. -EAGAIN: limit reached, reset. */
int engine_adopt(engine *, int fd, uint32_t slot, uint8_t direction, const uint8_t address[16], uint16_t port);

/* New or replaced; what was learned of its endpoints and of who speaks first is kept, parked connections go on. */
int engine_set_plan(engine *, const struct engine_plan *);
void engine_remove_plan(engine *, const uint8_t address[16], uint16_t port);

/* Answers NEED_PLAN: the connection goes to its original destination, or ends if it could have been meant to go by tunnel
 * (it is outbound of a pod with an identity). Unknown (ended meanwhile): nothing. */
void engine_no_plan(engine *, uint64_t connection);

/* Who the pods of this node are to others: an identity's certificates as DER, leaf first, one after the other. Known:
 * renewed; connections go on. -EINVAL: not EC certificates. Its private key is the signer's. */
int engine_set_identity(engine *, const char *name, const uint8_t *chain, uint32_t bytes);
void engine_remove_identity(engine *, const char *name);

/* Whom to believe: our trust domain, the roots' certificates as DER one after the other, and who is denied all the same
 * (SPIFFE ids, serial numbers in lower-case hexadecimal, two digits for each byte); tunnels of those end. -EINVAL: not certificates. */
int engine_set_trust(engine *, const char *domain, const uint8_t *roots, uint32_t bytes, const char *const *denied,
                     uint32_t denied_count);

/* A connected SOCK_SEQPACKET socket to the signer (signing.h), the engine's from here on, in place of the one before:
 * what handshakes want signed is asked there. */
int engine_set_signer(engine *, int fd);

/* What a carrier (the QUIC process) needs to know of a connection that waits for one; texts are borrowed until the next
 * call. 0: it waits no more. */
struct engine_opening {
    const char *source; /* SPIFFE id of the client's pod */
    const char *target; /* and of who must answer */
    const char *node;
    uint16_t destination_port;
    uint16_t client_port;
    uint8_t destination[16];
    uint8_t client[16];
};
int engine_to_carry(const engine *, uint64_t connection, uint32_t job, struct engine_opening *);
/* 200: by this socket, a connected one. 421: by HBONE. Else refused, as HBONE would. A socket (-1: none) is the engine's from
 * here on, whatever the answer is. */
void engine_carried(engine *, uint64_t connection, uint32_t job, int fd, uint16_t status);

/* Somebody with a proven identity calls a pod: a connected socket, which is the engine's from here on. ARRIVED is told
 * once, with a refusal too: the pod takes no tunnels or is somebody else by now, the caller is denied, or another one is
 * known to be at its address. -ENOENT: no such pod; -EAGAIN: limit reached. */
struct engine_arrival {
    uint64_t job;
    const char *identity;
    const char *target; /* SPIFFE id that was proven to the caller */
    uint32_t slot;
    uint16_t port;
    uint16_t client_port;
    uint8_t address[16];
    uint8_t client[16]; /* as the other node says; believed where that address is of this identity */
    uint8_t node[16];   /* the client, where it is not */
};
int engine_arrive(engine *, int fd, const struct engine_arrival *);

/* What operators set, also while the engine runs; it holds for timers and accepts from then on. */
struct engine_limits {
    uint32_t max_connections;
    uint32_t connect_timeout_ms;
    uint32_t detect_timeout_ms;
    uint32_t idle_timeout_ms;
    uint32_t stream_idle_ms;
};
void engine_set_limits(engine *, const struct engine_limits *);

/* Beats in another file from now on: an agent of a newer version may have made one. Keeps no descriptor. */
int engine_beat_in(engine *, int heartbeat_fd);

/* Tells everybody to go and ends nobody: the next response of each HTTP connection is its last (Connection: close), and
 * tunnels hear GOAWAY. Without `accept` nobody comes in from now on, and nobody is led here. */
void engine_let_go(engine *, uint8_t accept);

/* Ends HTTP connections that are at least so old and have no request under way. */
void engine_end_idle(engine *, uint32_t ms);

/* Stops accepting for good and ends what is idle; the other connections live on. engine_live() says how many are left. */
void engine_drain(engine *);
uint32_t engine_live(const engine *);

/* Copies up to `capacity` connections, newest first, after skipping `skip`; answers how many. */
uint32_t engine_connections(const engine *, struct engine_connection *, uint32_t capacity, uint32_t skip);

/* The layout of the counters' file (stats.h), for its readers. A name is NULL when the number is out of range. */
size_t engine_stats_bytes(void);
uint64_t engine_stats_layout(void);
size_t engine_stats_policies_offset(void);
uint32_t engine_stats_policies_max(void);
size_t engine_stats_series_offset(void);
size_t engine_stats_series_bytes(void);
uint32_t engine_stats_series_max(void);
uint32_t engine_stats_buckets(void);
uint64_t engine_bucket_bound_us(uint32_t bucket); /* exclusive upper bound; 0: none, it is the last */
const char *engine_counter_name(uint32_t number);
int engine_counter_is_gauge(uint32_t number);
const char *engine_flag_name(uint32_t number);
const char *engine_security_name(uint32_t number);
const char *engine_tls_reason(uint32_t number); /* a clause for people */
const char *engine_protocol_name(uint32_t number);
const char *engine_verdict_name(uint32_t number);
const char *engine_state_name(uint32_t number);

#endif
