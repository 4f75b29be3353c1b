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
    REASONS_MAX = 32          /* counters per pod; room to grow without changing the map */
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
    NOTE_PROXIED = 5   /* accepted by an app from a socket of ours; address: the true client */
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

enum pod_flag {
    POD_ENROLLED = 1,
    POD_CLOSED = 2, /* without a living worker: refuse (else: go direct) */
    POD_IP4 = 4,    /* ip4 is set */
    POD_IP6 = 8,    /* ip6 is set */
    POD_SHORTCUT = 16
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
    DESTINATION_EMPTY = 2    /* a virtual address with no endpoint: refused */
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

enum setting {
    SETTING_HEARTBEAT_NS_MAX = 0, /* a worker's heartbeat older than this is no life */
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
    REASON_BACKEND_MISSING = 20    /* picked a backend that the table does not hold: refused */
};

struct counters {
    __u64 count[REASONS_MAX];
};
