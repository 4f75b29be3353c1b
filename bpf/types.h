/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Every value that the hooks and user space share. The BPF compiler reads this file, and so does cffi
 * (cext/build_bpf.py): no struct, number or name of it is written twice. Hence the rules:
 *
 *   - only enums, structs and comments; no macro, no #include, no implicit padding;
 *   - an address is 16 bytes in network order, IPv4 as ::ffff:a.b.c.d; a port is in host order;
 *   - an enumerator never changes its number: pinned maps outlive the program that wrote them.
 */

enum seine_limit {
    PODS_MAX = 512,           /* enrolled pods of a node; the highest per-node pod limit in use is 500 (OpenShift) */
    WORKERS_MAX = 32,         /* half of the heartbeat cells but the first; mesh/config.py */
    DESTINATIONS_MAX = 65536, /* addresses that connect knows: VIP and port, or pod address; allocated when used */
    BACKENDS_MAX = 262144,    /* endpoints over all destinations; allocated when used */
    PORT_RULES_MAX = 16384,   /* skipped ports, 32 per pod; allocated when used */
    FLOWS_MAX = 65536,        /* connections between SYN and accept at any moment; LRU, preallocated, about 9 MiB */
    HOMES_MAX = 2048,         /* addresses of short-cut pods, four per pod; allocated when used */
    ENDS_MAX = 65536,         /* sockets in the short-cut, two per connection; more of them go by TCP */
    LANES_MAX = 32768,        /* connections in the short-cut; LRU, preallocated, about 5 MiB */
    PROBES_MAX = 8192,        /* kubelet's connections of the last seconds: 500 pods with three probes a second each; LRU */
    REASONS_MAX = 64          /* counters per pod; room to grow without changing the map */
};

enum seine_credit {
    CREDIT_BYTES = 262144, /* redirected since the peer last sent something; beyond it TCP, which has back-pressure */
    MESSAGE_BYTES = 1024   /* what a redirected message costs the kernel beside its bytes (struct sk_msg) */
};

enum seine_age {
    PROBE_SECONDS_MAX = 10 /* after kubelet has begun it a connection must arrive: connection requests are sent again after 1, 3 and 7 s */
};

enum seine_port {
    OUTBOUND_PORT = 15001, /* the listener in each pod that connect is rewritten to (Istio's number) */
    INBOUND_PORT = 15006   /* the listener in each pod that sk_lookup steers to (Istio's number) */
};

/* Private socket option of sockets made in the fixed cgroup; the value is a struct sockaddr_in6. */
enum seine_option {
    SEINE_SOL = 0x5E1E,   /* no kernel level is near it */
    SEINE_TRUE_CLIENT = 1 /* whose connection this socket is about to carry on */
};

enum direction { OUTBOUND = 0, INBOUND = 1 }; /* mesh.model.Direction */

struct address {
    __u32 ip[4];
    __u16 port;
    __u16 zero;
};

enum note_kind {
    NOTE_NONE = 0,
    NOTE_CAPTURED = 1, /* client socket sent to our listener; address: what it asked for */
    NOTE_DIRECT = 2,   /* client socket that the hook balanced itself; address: what it asked for */
    NOTE_OURS = 3,     /* made in the fixed cgroup; address: the true client, if one was set */
    NOTE_ACCEPTED = 4, /* accepted by our outbound listener; address: original destination */
    NOTE_PROXIED = 5,  /* accepted by an app from a socket of ours; address: the true client */
    NOTE_KUBELET = 6   /* made by this node's kubelet; address: what it asked for */
};

/* What we know of one socket. Lives in socket storage, so it dies with the socket. */
struct note {
    struct address address;
    __u32 kind; /* enum note_kind */
};

/* A connection whose accepted socket does not exist yet, seen from its client. Less than all of this mixes connections up. */
struct flow {
    __u64 netns; /* cookie */
    struct address client;
    struct address server;
};

/* A connection of kubelet's, as both ends see it: nobody translates addresses between a node and its own pods. */
struct probe {
    struct address client;
    struct address server;
};

enum pod_flag {
    POD_ENROLLED = 1,
    POD_CLOSED = 2, /* without a living worker: refuse (else: go direct) */
    POD_IP4 = 4,    /* ip4 is set */
    POD_IP6 = 8,    /* ip6 is set */
    POD_SHORTCUT = 16,
    POD_STRICT = 32 /* accepts mutual TLS only: without a living worker nothing from outside, whatever POD_CLOSED says */
};

struct pod {
    __u64 netns; /* cookie */
    __u32 flags; /* enum pod_flag */
    __u32 ip4;   /* the pod's own addresses, network order: what getsockname of a captured socket says */
    __u32 ip6[4];
};

struct port_rule {
    __u32 slot;
    __u16 port; /* destination port, seen from the connection's client */
    __u8 direction;
    __u8 zero;
};

enum destination_kind {
    DESTINATION_POD = 0,     /* a real address: going direct reaches it */
    DESTINATION_SERVICE = 1, /* a virtual address: the hook picks a backend when no worker lives */
    DESTINATION_EMPTY = 2,   /* a virtual address with no endpoint: refused */
    DESTINATION_TUNNEL = 3   /* whoever is behind it is reached by tunnel and by nothing else: refused when no worker lives */
};

/* Value of `destinations`. A new set of backends is a new group, so that one update switches from old to new. */
struct destination {
    __u32 kind; /* enum destination_kind */
    __u32 group;
    __u32 backends;
};

struct backend_key {
    __u32 group;
    __u32 index; /* below destination.backends */
};

/*
 * One connection within this node, the same to both of its ends. The numbers are those of the handshake, the next that
 * each side would send: sockets that have all of this in common are the two ends of one connection, whatever address
 * translation, reused addresses or equal loopback tuples there are.
 */
struct pair {
    __u64 client_netns; /* cookies */
    __u64 server_netns;
    struct address client;
    struct address server;
    __u32 client_number;
    __u32 server_number;
};

enum side { SIDE_CLIENT = 0, SIDE_SERVER = 1 };

/* One socket of it. */
struct end {
    struct pair pair;
    __u32 side; /* enum side */
    __u32 zero;
};

/* How a direction of a connection goes. It only ever moves down this list: going back would reorder bytes. */
enum way {
    WAY_UNDECIDED = 0, /* nothing was sent yet: the first message decides */
    WAY_SHORT = 1,     /* into the peer's receive queue */
    WAY_TCP = 2
};

/* What a socket that joined the short-cut knows of itself. Lives in socket storage, so it dies with the socket. */
struct shortcut {
    struct end peer; /* where its messages go */
    __u64 netns;     /* its own */
    __u32 slot;
    __u32 way;       /* enum way, of what it sends */
    __u32 watched;   /* we asked the kernel to tell when TCP sends */
    __u32 zero;
};

/* What both ends of a connection must see. There is one as long as both are open and want the short-cut. */
struct lane {
    __u64 spent[2]; /* per side that sends: redirected since the other last sent something */
};

enum setting {
    SETTING_HEARTBEAT_NS_MAX = 0, /* a worker's heartbeat older than this is no life */
    SETTING_SHORTCUT = 1,         /* 1: pods that ask for the short-cut have it; 0: nobody on this node */
    SETTING_LEFT_OUT = 2,         /* destinations with a tunnel behind them that had no room in `destinations` */
    SETTING_KUBELET = 3,          /* id of the cgroup in which this node's kubelet is; 0: not known */
    SETTINGS_MAX = 8
};

/* Why a connection went the way it went: one counter each per pod. Metric names are these, in lower case, without REASON_. */
enum reason {
    REASON_CAPTURED = 0,           /* connect sent to our listener */
    REASON_DIRECT_LOOPBACK = 1,    /* loopback or unspecified address asked for */
    REASON_DIRECT_LINK_LOCAL = 2,
    REASON_DIRECT_MULTICAST = 3,
    REASON_DIRECT_DEVICE = 4,      /* socket bound to a device */
    REASON_DIRECT_SKIPPED = 5,     /* skip-outbound-ports */
    REASON_DIRECT_UNKNOWN = 6,     /* no VIP and no pod */
    REASON_DIRECT_NO_FAMILY = 7,   /* the pod has no address of the family: the kernel says so itself */
    REASON_REFUSED_EMPTY = 8,      /* Service without endpoints: ECONNREFUSED */
    REASON_OPEN_BALANCED = 9,      /* no living worker, open: the hook picked a backend */
    REASON_OPEN_DIRECT = 10,       /* no living worker, open: a pod's address, left alone */
    REASON_CLOSED_REFUSED = 11,    /* no living worker, closed: ECONNREFUSED */
    REASON_INBOUND_CAPTURED = 12,  /* a connection request steered to our listener (retransmits count again) */
    REASON_INBOUND_SKIPPED = 13,   /* skip-inbound-ports */
    REASON_INBOUND_OPEN = 14,      /* no living worker, open: the app answers itself */
    REASON_INBOUND_CLOSED = 15,    /* no living worker, closed: reset */
    REASON_FLOW_MISSING = 16,      /* accepted on our outbound listener, and nobody published where to */
    REASON_NOTE_FAILED = 17,       /* no memory for a socket note: the connection went by the fail rule */
    REASON_FLOW_FAILED = 18,       /* publishing failed: the accepted socket will count as flow_missing */
    REASON_SOURCE_UNBOUND = 19,    /* the pod's address could not be bound: the app sees a loopback source until fixed up */
    REASON_BACKEND_MISSING = 20,   /* picked a backend that the table does not hold: refused */
    REASON_SHORTCUT_JOINED = 21,   /* a socket of the pod entered the short-cut; what it sends is decided later */
    REASON_SHORTCUT_MESSAGES = 22, /* redirected into the peer's receive queue */
    REASON_SHORTCUT_BYTES = 23,    /* ... and how many bytes they had */
    REASON_SHORTCUT_UNJOINED = 24, /* table full or key taken: the socket stays out */
    REASON_SHORTCUT_EARLY = 25,    /* from here on, one direction of a connection goes by TCP for good. TCP sent first */
    REASON_SHORTCUT_ABSENT = 26,   /* the peer had not joined when the first message was sent */
    REASON_SHORTCUT_CREDIT = 27,   /* CREDIT_BYTES were redirected and the peer said nothing */
    REASON_SHORTCUT_GONE = 28,     /* the peer has closed or left */
    REASON_SHORTCUT_OFF = 29,      /* switched off for the pod or the node while the connection was open */
    REASON_INBOUND_STRICT = 30,    /* no living worker, open, but the pod accepts mutual TLS only: reset */
    REASON_TUNNEL_REFUSED = 31,    /* whom it meant is reached by tunnel only, and no worker lives (open), or it is bound to
                                      a device, or of a family that the pod is not captured in: ECONNREFUSED */
    REASON_DIRECT_OVERFLOW = 32,   /* not known, while some that are reached by tunnel had no room: maybe one of them */
    REASON_OVERFLOW_REFUSED = 33,  /* likewise, from a pod that is strict: ECONNREFUSED */
    REASON_INBOUND_KUBELET = 34    /* a probe of this node's kubelet: left alone, whatever the pod's mode is */
};

struct counters {
    __u64 count[REASONS_MAX];
};
