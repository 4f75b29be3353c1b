/* Connections between nodes: TCP, TLS with both ends proven, HTTP/2 on top; pooled by {source pod, who must be there,
 * address}. What travels in their streams is hbone.c's business.
 * Invariants:
 *  - nothing of a stream leaves before the other end is proven; whoever it was meant for never sees it else;
 *  - all that one wake-up made for one tunnel leaves in as few TLS writes as possible, 64 KiB at most waiting: that is what
 *    makes a request through a pair of proxies cost what one plain hop costs, and keeps small messages quick beside bulk;
 *  - a tunnel ends in one place (tunnel_close), and its streams are told why. */
#ifndef SEINE_TUNNEL_H
#define SEINE_TUNNEL_H

#include "h2.h"
#include "tls.h"

enum tunnel_state { TUNNEL_CONNECTING, TUNNEL_HANDSHAKE, TUNNEL_OPEN, TUNNEL_DEAD };

struct reach;

/* Whom a tunnel leads to. An address, and an identity with it, may be the next pod's within seconds, and what leads to the
 * one before leads to nobody: it would not even be refused. */
struct whom {
    struct name *peer; /* must be there */
    uint64_t workload; /* the endpoint's id */
    struct endpoint_address to;
};

struct tunnel {
    struct watch watch;
    struct list all;   /* of its reach, or of the accepted ones; or among the dead */
    struct list dirty; /* among those with something to send */
    struct list again; /* among those with more to read */
    struct timer timer;
    struct h2 h2;
    struct tls *tls;
    struct reach *reach; /* the client's role; NULL: the server's */
    struct endpoint_address remote; /* the server's role: whose socket it is */
    struct endpoint_address local;  /* the server's role: the address that it came to */
    uint64_t heard_ns;
    uint64_t used_ns; /* had streams */
    uint64_t trust_version; /* by which its peer is judged */
    uint32_t slot;
    uint8_t state;
    bool readable;
    bool full;   /* the socket takes no more now */
    bool paused; /* waits for a signature */
    bool greeted; /* the other end has spoken HTTP/2: it accepts us */
    bool pinged; /* and has not answered yet */
    bool hangup;
};

/* One that takes another stream; NULL: none. */
struct tunnel *tunnel_find(struct engine *, uint32_t slot, const struct whom *);
/* A new one over an unconnected socket of the pod. NULL: errno says why; the socket is closed. */
struct tunnel *tunnel_dial(struct engine *, uint32_t slot, const struct whom *, int fd, const struct h2_use *);
void tunnel_accept(struct engine *, struct pod *, int fd, const struct endpoint_address *peer,
                   const struct endpoint_address *asked, const struct h2_use *);
struct name *tunnel_peer(const struct tunnel *); /* proven; borrowed */
void tunnel_event(struct engine *, struct tunnel *, uint32_t events);
void tunnel_signed(struct engine *, struct tunnel *);
void tunnel_close(struct engine *, struct tunnel *, int error);
void tunnel_wake(struct engine *, struct h2 *); /* for struct h2_use */

void tunnel_mark(struct engine *, struct tunnel *); /* it has something to send */
void tunnel_tick(struct engine *, struct tunnel *); /* starts its timer, once it is open */

/* tunnel_io.c. Any of them may close it. */
void tunnel_handshake(struct engine *, struct tunnel *);
void tunnel_refuse(struct engine *, struct tunnel *, enum tls_reason); /* its handshake has failed, and that is told */
void tunnel_read(struct engine *, struct tunnel *);
void tunnel_flush(struct engine *, struct tunnel *);
void tunnel_send(struct engine *, struct tunnel *); /* what TLS has for it; closes nothing */

int tunnels_init(struct engine *);
uint32_t tunnels_again(struct engine *); /* one turn for those with more to read; answers how many */
void tunnels_flush(struct engine *);
void tunnels_judge(struct engine *);                     /* ends those of who is denied by now */
void tunnels_drop_slot(struct engine *, uint32_t slot);  /* the pod is gone */
void tunnels_leave(struct engine *);                     /* no new streams */
void tunnels_leave_slot(struct engine *, uint32_t slot); /* likewise: the pod has left, or is another */
void tunnels_bury(struct engine *);
void tunnels_free(struct engine *);

static inline struct tunnel *tunnel_of(struct h2 *h2)
{
    return container_of(h2, struct tunnel, h2);
}

#endif
