/* What the engine's files offer each other, by file. The objects that it is about: objects.h. */
#ifndef SEINE_CORE_H
#define SEINE_CORE_H

#include "objects.h"

#define COUNT(e, name) ((e)->counters[COUNTER_##name]++)
#define LESS(e, name) ((e)->counters[COUNTER_##name]--)

static inline uint64_t ms_from_now(const struct engine *e, uint32_t ms)
{
    return e->now + ms * NS_PER_MS;
}

/* pump.c: the epoll and the queue of events for Python */
int watch_set(struct engine *, struct watch *, uint32_t wanted); /* 0 wanted: errors and hang-ups only */
void watch_mute(struct engine *, struct watch *);                /* takes it out until something is wanted */
void watch_close(struct engine *, struct watch *, bool shared);
void event_push(struct engine *, const struct engine_event *);
uint64_t clock_ns(void); /* CLOCK_MONOTONIC, where the time of the batch is too coarse */
void engine_begin(struct engine *);  /* of a command: what time is it */
void engine_finish(struct engine *); /* of a command: timers armed, events announced, the dead buried */

/* buffer.c */
struct block *block_get(struct engine *); /* NULL: limit or memory */
struct block *block_lend(struct engine *); /* beyond the limit, to who needs a second one to be rid of its first */
void block_put(struct engine *, struct block *);
void blocks_free(struct engine *);

/* plan.c */
struct plan *plan_find(const struct engine *, const struct endpoint_address *); /* borrowed */
struct plan *plan_through(struct engine *, const struct endpoint_address *, int32_t slot); /* owned */
void plan_unref(struct engine *, struct plan *);
struct target *plan_pick(struct engine *, struct plan *, struct load *const *tried, uint32_t tried_count); /* owned */
void target_unref(struct engine *, struct target *);
enum speaker plan_speaker(const struct plan *, uint16_t port);
void plan_learn(struct plan *, uint16_t port, enum speaker);
void plans_free(struct engine *);

/* source.c */
uint64_t hash_address(const uint8_t ip[16], uint16_t port);
uint64_t source_of(const struct engine *, const uint8_t ip[16]); /* 0: unknown */
struct name *source_identity(const struct engine *, const uint8_t ip[16]); /* borrowed; NULL: unknown */
void sources_free(struct engine *);

/* names.c. NULL is no name, and fine for the last three. */
struct name *name_get(struct engine *, const char *text); /* owned; NULL: no memory */
struct name *name_ref(struct name *);
void name_unref(struct engine *, struct name *);
void names_free(struct engine *); /* when nobody has one any more */

/* pods.c */
struct pod *pod_find(const struct engine *, uint32_t slot);
void pods_free(struct engine *);

/* listen.c: pods' listeners, accepting */
void turn_away(int fd); /* closes with a reset: it was not meant for us, or we have no room for it */
void listener_ready(struct engine *, struct listener *);
void listener_close(struct engine *, struct listener **place); /* if there is one */

/* neighbours.c: how many connections we carry, told to the node's other workers; whether one of them carries clearly
 * fewer. */
void neighbours_tell(struct engine *);
bool neighbours_idler(const struct engine *);
void listeners_resume(struct engine *); /* those that yielded, when it is time */
void listeners_bury(struct engine *);
void listeners_stop(struct engine *);

/* stock.c: sockets to dial with */
void stock_init(struct engine *, struct pod *);
void stock_free(struct engine *, struct pod *);
void stock_check(struct engine *, struct pod *, int family_index); /* asks for more when low */
int stock_take(struct engine *, struct pod *, int family_index);  /* -1: empty */

/* session.c: the table of sessions, their states, and their end */
struct session *session_new(struct engine *); /* NULL: no memory */
struct session *session_find(const struct engine *, uint64_t id);
void session_enter(struct engine *, struct session *, enum session_state); /* leaves its queue, stops its timer */
void session_watch(struct engine *, struct session *); /* may end it */
void session_event(struct engine *, struct leg *, uint32_t events);
void session_count_opened(struct engine *, struct session *); /* once, when what it speaks is known */
void session_end(struct engine *, struct session *, enum flag, bool reset_client, bool reset_server);
void session_give_up(struct engine *, struct session *, enum flag); /* resets both sides */
void sessions_init(struct engine *);
void sessions_bury(struct engine *);
void sessions_feed(struct engine *); /* the starved, when blocks are free again */
void sessions_leave(struct engine *, uint32_t ms); /* HTTP, at least so old: each after its exchange */
uint32_t sessions_again(struct engine *); /* one turn for those with more to do; answers how many */
void sessions_free(struct engine *);

/* retire.c: series for others, from those that nobody counts in */
void retire_init(struct engine *);
void retire_start(struct engine *);

/* lapse.c: whom to end when there is not enough of something */
void leg_stuck(struct engine *, struct leg *); /* since now, unless it was before */
void leg_idle(struct engine *, struct leg *);
void sessions_shed(struct engine *);   /* the longest stuck, while blocks are wanted */
bool session_reclaim(struct engine *); /* the longest idle; false: there is none */

static inline void leg_moves(struct leg *leg) /* neither stuck nor idle */
{
    if (!list_empty(&leg->lapse))
        list_remove(&leg->lapse);
}

/* Below, a function that moves a session on may end it: its callers do not touch it afterwards. */

/* start.c: plan and first bytes */
int session_start(struct engine *, int fd, bool shared, uint32_t slot, uint8_t direction,
                  const struct endpoint_address *peer, const struct endpoint_address *asked);
int session_start_stream(struct engine *, struct stream *, uint32_t slot, const struct endpoint_address *peer,
                         const struct endpoint_address *asked, struct name *identity); /* came by tunnel */
int session_start_arrival(struct engine *, int fd, const struct engine_arrival *, const struct endpoint_address *peer,
                          struct name *identity); /* came by a carrier */
void session_use(struct engine *, struct session *, struct plan *); /* takes a reference */
void session_park(struct engine *, struct session *); /* until its plan comes */
void session_look(struct engine *, struct session *); /* at the client's bytes; undecided while more could tell */
enum detected session_guess(const struct session *); /* when time is up: TLS without a name, or other */
void session_decide(struct engine *, struct session *, enum detected);
void session_wait(struct engine *, struct session *); /* for the client's first bytes, once, before anything is dialled */
void start_client_event(struct engine *, struct session *);
void start_timeout(struct engine *, struct session *);

/* admit.c: who is denied, and a pod's policies, asked. LATER: the client has not spoken yet, and only HTTP could be
 * admitted, or be told why not. UNCLEAR: the request could be read in two ways. */
enum admission { ADMIT_YES, ADMIT_LATER, ADMIT_DENIED, ADMIT_UNCLEAR };
enum admission policies_admit(struct engine *, struct session *); /* to the endpoint that it has chosen */
void policies_opened(struct engine *, const struct session *); /* counts: it is not HTTP, and goes on */

/* denial.c: identities that are denied, between two pods of this node */
bool identity_is_denied(const struct engine *, const struct session *); /* its own, or that of the pod it has chosen */
void identities_judge(struct engine *); /* ends what is open between such */

/* policies.c, rulings.c */
void policies_free(struct engine *, struct pod *);
void rulings_free(struct engine *);

/* dial.c: endpoint, socket, connecting */
void dial_init(struct dial *);
void dial_begin(struct engine *, struct session *); /* picks an endpoint; ends in dial_done or dial_give_up below */
void dial_with(struct engine *, struct dial *, int fd); /* the socket it waited for */
void dial_without_socket(struct engine *, struct dial *); /* there will be none */
void dial_event(struct engine *, struct session *);
void dial_repeat(struct engine *, struct session *); /* the endpoint it has, by another connection and a new one */
void dial_leave(struct engine *, struct session *, bool reset); /* closes what it has; the session needs it no more */
void dial_observe(struct engine *, struct session *, double rtt_ns);
void dial_observe_failure(struct engine *, struct session *);

void dial_carried(struct engine *, struct session *, int fd, uint16_t status); /* a carrier has answered */

/* carry.c: connections that another process carries to and from other nodes */
void carry_ask(struct engine *, struct session *);
void carry_answer(struct engine *, struct session *, uint16_t status); /* of an arrival, once */
void carry_judge(struct engine *); /* ends what came from somebody who is denied now */

/* pool.c: connections to endpoints, in use and idle */
struct upstream *upstream_new(struct engine *, int fd, uint32_t made_in); /* NULL: no memory, and fd is closed */
socklen_t fill_address(const struct endpoint_address *, uint16_t port, struct sockaddr_storage *); /* dial.c */
void upstream_close(struct engine *, struct upstream *, bool reset);
int pool_init(struct engine *);
struct upstream *pool_take(struct engine *, struct session *, const struct target *); /* NULL: none */
void pool_put(struct engine *, struct session *); /* what its dial has: kept for later, or closed */
void pool_event(struct engine *, struct upstream *); /* of an idle one: it is of no use any more */
void pool_drop_gone(struct engine *);                /* those of targets that are gone */
void pool_drop_slot(struct engine *, uint32_t slot); /* those made in a pod */
void pool_drop_all(struct engine *);
void pool_bury(struct engine *);
void pool_free(struct engine *);

/* exchange.c: a session that speaks HTTP/1. More in exchange.h. */
void http_begin(struct engine *, struct session *); /* its first bytes are in the client's block */
void http_event(struct engine *, struct leg *, uint32_t events);
void http_run(struct engine *, struct session *); /* whatever can be done now */
void http_planned(struct engine *, struct session *);
void http_connected(struct engine *, struct session *);
void http_not_connected(struct engine *, struct session *, enum flag);
void http_timeout(struct engine *, struct session *);
void http_leave(struct engine *, struct session *); /* no more requests; closed now if idle */
void http_orphan(struct engine *, struct session *); /* its pod is gone: no more requests, no more dialling */
void http_ended(struct engine *, struct session *, enum flag); /* accounts for the exchange under way, and frees it */
void http_free(struct engine *);

/* opaque.c: an open session whose bytes are carried as they are */
void opaque_begin(struct engine *, struct session *);
void opaque_upgrade(struct engine *, struct session *); /* from HTTP on, with what is in the blocks */
void opaque_event(struct engine *, struct leg *, uint32_t events);
void opaque_timeout(struct engine *, struct session *);

/* leg.c: what is done to a socket or a stream alike */
int leg_watch(struct engine *, struct leg *, uint32_t wanted); /* 0 wanted: errors and hang-ups only */
void leg_fill(struct engine *, struct leg *); /* reads once into what room its block has */
ssize_t leg_write(struct engine *, struct leg *, const uint8_t *, size_t); /* < 0: not now, or `shut`: never again */
bool leg_give(struct engine *, struct leg *from, struct leg *to); /* a whole block to a stream: nothing is copied */
ssize_t leg_discard(struct engine *, struct leg *); /* reads once and forgets it. < 0: none now, 0: the end */
void leg_shut(struct engine *, struct leg *); /* nothing more is sent to it */
void leg_drop(struct engine *, struct leg *); /* forgets the bytes under way */
void leg_close(struct engine *, struct leg *, bool reset);

static inline bool leg_is_closed(const struct leg *leg)
{
    return leg->watch.fd < 0 && !leg->stream;
}

static inline bool leg_has_room(const struct leg *leg)
{
    return !leg->rx || leg->rx->end < BLOCK_READ;
}

/* flow.c: bytes from one leg to the other, as they are */
void leg_flow(struct engine *, struct leg *from, struct leg *to);

static inline struct leg *server_of(struct session *s)
{
    return s->dial.up ? &s->dial.up->leg : NULL;
}

/* A connection that is in the target's pod already, because it came in to it or the pod calls itself, stays there. */
static inline bool goes_by_tunnel(const struct session *s, const struct target *target)
{
    return target->peer && s->direction == ENGINE_OUTBOUND && target->slot != (int32_t)s->slot;
}

/* The slot of the pod whose sockets it is dialled with. */
static inline uint32_t dialled_in(const struct session *s, const struct target *target)
{
    return target->slot >= 0 && !goes_by_tunnel(s, target) ? (uint32_t)target->slot : s->slot;
}

static inline uint8_t security_of(const struct session *s)
{
    return s->tunnelled || s->dial.secured ? SECURITY_MUTUAL_TLS : SECURITY_NONE;
}

static inline bool address_is_v4(const uint8_t ip[16])
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return __builtin_memcmp(ip, mapped, sizeof mapped) == 0;
}

#endif
