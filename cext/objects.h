/* The engine's objects, which its files share. Who offers what of them: core.h.
 *
 * A *leg* is one socket, or one stream of an HTTP/2 connection: a client's or a server's. A *session* is one client
 * connection; an *upstream* is one connection to an endpoint, which a session has for a while or for good, and which
 * lives on in the pool after an exchange. A *dial* is the way from the one to the other: the endpoint chosen, the socket
 * waited for, the connecting.
 * Bytes read from a leg sit in that leg's `rx` block until the other leg took them; a leg without bytes under way holds
 * no block, so that an idle session is these structs and nothing more.
 * Invariants:
 *  - what is carried as it is has level-triggered legs, their interest computed in one place (session_watch);
 *    HTTP has edge-triggered legs that remember what epoll said (leg_note), so that a request costs no epoll_ctl;
 *  - a session ends in one place (session_end), which counts it once and frees everything it held;
 *  - what ends during a batch of events is freed after the batch: an event may still point to it. */
#ifndef SEINE_OBJECTS_H
#define SEINE_OBJECTS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "balance.h"
#include "detect.h"
#include "engine.h"
#include "http1.h"
#include "list.h"
#include "stats.h"
#include "timer.h"

#define BATCH 128
#define LEG_EVENTS (EPOLLIN | EPOLLRDHUP | EPOLLET) /* of HTTP; EPOLLOUT is added when it is missed, and stays */
#define EVENTS_MAX 4096     /* for Python, power of two; more are dropped, and asked again after a timeout */
#define STOCK_MAX 256       /* per pod and family */
#define SLOTS_MAX 65536
#define PORTS_LEARNED 8     /* of a plan for any port: who speaks first */
#define BLOCK_BYTES 65536
#define BLOCK_READ HTTP1_HEAD_MAX /* of it, what is read into: the rest is room for a field that we add to a head */
#define BLOCKS_KEPT 256     /* free ones kept for the next: 16 MiB */
#define DIALS_MAX 3         /* endpoints tried for one connection */
#define FLOW_TURNS 4        /* blocks moved for one event, before others get their turn */
#define NS_PER_MS 1000000ull

enum watch_kind { WATCH_TIMER, WATCH_KICK, WATCH_LISTENER, WATCH_CLIENT, WATCH_SERVER, WATCH_TUNNEL, WATCH_SIGNER };

/* A descriptor in the epoll; first member of what it belongs to. */
struct watch {
    int fd;
    uint32_t wanted;
    enum watch_kind kind;
    bool added;
};

struct block {
    struct block *next;
    uint32_t start, end;
    uint8_t bytes[BLOCK_BYTES - 16];
};

struct endpoint_address {
    uint8_t ip[16];
    uint16_t port;
};

struct target { /* an endpoint as learned; shared by successive plans and by whoever uses it */
    struct load load;
    uint64_t id;
    struct endpoint_address address;
    struct name *peer; /* who must be there: by tunnel; NULL: as it is */
    struct name *node; /* where a carrier finds it; NULL: by HBONE */
    int32_t slot;
    uint32_t refs;
    bool near; /* its connections are made at once, as far as we know */
    bool gone; /* from its plan: nothing of it is kept for later */
};

enum speaker { SPEAKER_UNKNOWN, SPEAKER_CLIENT, SPEAKER_SERVER };

struct learned {
    uint16_t port;
    uint8_t speaker;
};

struct plan {
    struct plan *next; /* in its bucket */
    struct endpoint_address address;
    uint64_t service;
    struct name *host; /* of the Service, for the other node's proxy; NULL: none is meant */
    uint32_t refs;
    uint32_t count;
    uint32_t cursor;
    uint8_t protocol;
    uint8_t balancer;
    bool through; /* of nobody's making: to where the client wanted */
    struct learned learned[PORTS_LEARNED];
    uint64_t *cumulative; /* NULL when all weights are alike */
    struct load *loads[]; /* each the first member of a target */
};

struct plans {
    struct plan **buckets;
    uint32_t size; /* power of two */
    uint32_t count;
};

struct stock {
    struct list waiters; /* dials, by `queued` */
    uint64_t asked_ns;   /* 0: no request under way */
    uint32_t count;
    uint32_t target;     /* grows when it ran empty */
    int fds[STOCK_MAX];
};

struct name { /* a text that is kept once (names.c): equal text is an equal pointer */
    struct name *next; /* in its bucket */
    uint32_t refs;
    char text[];
};

struct listener {
    struct watch watch;
    struct timer backoff;
    struct pod *pod;
    uint8_t direction;
    bool yielded; /* to a neighbour with less to do; the next connection is ours */
    struct list yields; /* among those that wait for it meanwhile */
    struct listener *dead; /* next to free */
};

struct pod {
    uint32_t slot;
    uint64_t source;
    struct name *identity; /* SPIFFE id; NULL: none, and no tunnel */
    struct name *principal; /* SPIFFE id, to policies; NULL: nobody */
    struct policies *policies; /* who may call it; NULL: everybody */
    struct listener *listeners[2];
    struct stock stock[2]; /* IPv4, IPv6 */
    uint32_t opaque_count;
    uint16_t *opaque_ports;
    char *baggage; /* describes it to other nodes' proxies; NULL: not said */
    uint8_t mtls; /* ENGINE_MTLS_* */
};

struct leg {
    struct watch watch;
    struct stream *stream; /* in place of the watch's descriptor, which is -1 then */
    struct session *session; /* whose it is; NULL: an upstream in the pool */
    struct block *rx;
    bool ended;   /* nothing more comes from it: FIN or error */
    bool reset;   /* it was an error */
    bool shut;    /* we have sent our FIN to it, or can send no more */
    bool shared;  /* others may hold its description: leaves the epoll before it is closed */
    bool starved; /* no block was to be had: not read until one is free */
    struct list lapse; /* among the stuck (it does not take, or end, what holds a block) or the idle, oldest first */
    uint64_t lapse_ns; /* since when */
    /* Edge-triggered: what epoll has said and nobody has used up. */
    bool readable;
    bool full;    /* for sending; epoll says when it is no longer */
    bool hangup;  /* its FIN or error is there: a short read does not mean that it is drained */
};

struct upstream {
    struct leg leg;      /* first: what an event points to */
    struct pool *pool;   /* whose idle ones it is among when it is idle; NULL before the first time */
    struct target *target; /* while it is idle, a reference */
    struct list queued;  /* among the idle of its pool, newest first */
    struct list idle;    /* among all the idle, oldest first; or among the dead */
    uint64_t idle_ns;    /* since when */
    uint32_t made_in;    /* the slot of the pod that its socket is of */
    bool used;           /* an exchange has ended on it: it may be stale when the next begins */
    bool doomed;         /* it does not go to the pool again */
};

struct pools { /* idle upstreams by {client address, endpoint, where dialled from} */
    struct pool **buckets;
    struct list idle, dead;
    struct timer timer;
};

enum dial_state { DIAL_NONE, DIAL_WAITING, DIAL_ASKING, DIAL_CONNECTING, DIAL_CONNECTED };

struct dial {
    struct list queued;      /* among the waiters of a stock */
    struct timer timer;      /* waiting and connecting */
    struct target *target;   /* chosen, and its load counted */
    struct upstream *up;     /* from connecting on */
    uint64_t began_ns;       /* connecting */
    uint64_t endpoint;       /* of the last one tried, for the accounts */
    struct load *tried[DIALS_MAX];
    uint32_t job;     /* asking: what a carrier is asked for */
    uint8_t count;
    uint8_t state;
    bool by_hbone; /* no carrier goes to the target now */
    bool stale;   /* was sent to a tunnel that took no more, once */
    bool secured; /* by tunnel; of the last one tried, for the accounts */
    bool barred;  /* the last one tried was not admitted, because an identity is denied */
};

#define SESSION_STATES(X) \
    X(NEW, "new") \
    X(PARKED, "parked")       /* waits for a plan */ \
    X(DETECTING, "detecting") /* waits for client bytes, nothing dialled */ \
    X(WAITING, "waiting")     /* as DIALLING, for a socket of the stock: a name for people */ \
    X(DIALLING, "dialling") \
    X(OPEN, "open")           /* carried as it is */ \
    X(IDLE, "idle")           /* HTTP, between requests */ \
    X(EXCHANGE, "exchange")   /* HTTP, from a request's first byte to its response's last */ \
    X(CLOSING, "closing")     /* HTTP: what the client still sends is discarded, so that it can read our last words */ \
    X(DEAD, "dead")
#define SESSION_STATE_ENUM(name, text) SESSION_##name,
enum session_state { SESSION_STATES(SESSION_STATE_ENUM) SESSION_STATE_COUNT };

struct session {
    struct list all;
    struct list queued; /* among the parked, the starved, those with more to do, or the dead */
    struct timer timer; /* of its state: park, detect, idle */
    struct leg client;
    struct dial dial;
    struct exchange *exchange; /* HTTP: the one under way */
    uint64_t id;
    uint64_t source;
    uint64_t began_ns;
    uint64_t spoke_ns;  /* the client, for the first time */
    uint64_t active_ns; /* bytes moved */
    uint64_t request_bytes;
    uint64_t response_bytes;
    struct series *series;  /* of this connection while it lives; NULL until counted as opened */
    struct series *carried; /* what its bytes are counted in */
    struct plan *plan;
    struct name *identity; /* who the client has proven to be; NULL: nobody */
    char *sni;
    uint64_t arrival; /* a carrier's job that waits to hear whether the application is there; 0: none */
    struct endpoint_address peer; /* the true client */
    struct endpoint_address asked; /* the original destination */
    struct series *recent; /* HTTP: of the last request */
    uint32_t lingered; /* HTTP: bytes discarded while closing */
    uint32_t slot;
    uint32_t plans_version; /* when `plan` was right */
    uint16_t refusal; /* of the arrival, where it is not 503 */
    uint8_t direction;
    uint8_t state;
    uint8_t spoken;
    bool tunnelled; /* it came by tunnel */
    bool decided; /* what is spoken; before, client bytes wait */
    bool running; /* HTTP: in http_run */
    bool leaving; /* HTTP: no request after this one */
    bool waited;  /* for the client to speak HTTP, because nothing else could be admitted */
};

struct tunnels { /* to and from other nodes: tunnel.h */
    struct reach **reaches;
    struct list accepted, dirty, again, dead;
    struct list idle; /* reaches without a tunnel */
    uint32_t idle_count;
    uint8_t plain[65536], cipher[65536]; /* scratch */
};

struct sessions { /* ids: generation << 32 | index + 1 */
    struct session **table;
    uint32_t *generations;
    uint32_t *free;
    uint32_t size, free_count;
    struct list all, parked, starved, dead;
    struct list stuck, idle; /* legs, by `lapse` */
    struct list again; /* edge-triggered, and not done with what was ready */
};

struct engine {
    struct engine_config config;
    int epoll, timerfd, kick;
    struct watch timer_watch, kick_watch;
    bool kicked, leaving, draining; /* leaving: everybody is told to go; draining: and nobody comes in */
    bool short_of_blocks; /* somebody asked for one in vain */
    uint64_t now; /* CLOCK_MONOTONIC, of this batch */
    uint64_t armed_ns; /* what the timerfd is set to; 0: nothing */
    uint64_t random;
    uint64_t *heartbeat;
    uint32_t worker;
    struct stats *stats;
    uint64_t *counters;
    struct timer beat;
    struct timer retire;
    struct pod **pods; /* by slot */
    struct plans plans;
    uint32_t plans_version; /* changes when any plan does */
    struct sessions sessions;
    struct pools pools;
    struct exchange *exchanges_free;
    struct http1_head head; /* the one being read; one that comes in pieces is kept by its exchange */
    struct sources *sources;
    struct names *names;
    struct rulings *rulings; /* NULL: no pod ever had a policy */
    struct block *blocks_free;
    struct listener *listeners_dead;
    struct tunnels tunnels;
    struct list credentials;
    struct trust *trust; /* NULL: not told yet */
    uint64_t trust_version; /* changes with trust or any credential */
    struct list signatures; /* wanted by handshakes */
    struct watch signer;    /* whom they are asked of */
    uint64_t signature_tickets;
    uint32_t carrier_jobs;
    uint64_t refusals_told_ns[TLS_REASON_COUNT];
    struct list streams_told; /* streams with something to tell their legs */
    struct list yielding; /* listeners, until yield_end_ns */
    uint64_t yield_end_ns;
    struct engine_event events[EVENTS_MAX];
    uint32_t events_head, events_tail;
    struct epoll_event batch[BATCH];
    struct wheel wheel;
};

#endif
