/* The process that has the node's private keys, in memory only, and signs handshakes with them for whoever the agent
 * gives a socket to. It goes on without an agent. What is signed is what proves an identity in a TLS 1.3 handshake and
 * nothing else: so who has taken over a worker can speak as this node's pods while it lives, as it could anyway, but
 * has no certificate, request or token signed to take away.
 * The words are those of signing.h; nobody waits for anybody: who does not take its answer is not listened to. */
#ifndef SEINE_SIGNER_H
#define SEINE_SIGNER_H

typedef struct signer signer;

/* Makes room for keys that is never swapped, once per process. 0: it is; -1: it is not, or is only not dumped. */
int signer_lock_memory(void);

signer *signer_new(void); /* NULL: errno says why */
void signer_free(signer *);
int signer_fd(const signer *); /* readable while signer_run has something to do */

/* A connected socket to an agent, the signer's from here on, in place of the one before. */
int signer_meet(signer *, int fd);

/* Serves until the time is up, a signal came, or the agent went, and reports. */
void signer_run(signer *, int timeout_ms);

int signer_has_agent(const signer *);
int signer_is_outdated(const signer *); /* the agent is of another version: the process shall end */
unsigned signer_clients(const signer *);

#endif
