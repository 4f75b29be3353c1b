/* HBONE, Istio's tunnel: each TCP connection of an application is one CONNECT stream (RFC 9113 8.5) between the proxies of
 * two nodes. Both roles, as ztunnel speaks them: `:authority` is the pod's IP:PORT, `forwarded` says whose connection it
 * is, `baggage` describes the source; 200 when the connection to the application stands, 400 for what is no such
 * request or another pod's address, 401 denied by policy, 503 when the application cannot be reached. */
#ifndef SEINE_HBONE_H
#define SEINE_HBONE_H

#include "tunnel.h"

/* A stream to the endpoint of the session's dial, asked for over a tunnel that takes one. NULL: no memory. */
struct stream *hbone_request(struct engine *, struct session *, struct tunnel *);
extern const struct h2_use HBONE_SOURCE, HBONE_DESTINATION;

void hbone_answer(struct engine *, struct session *); /* of the destination: its application is there. Once */
void hbone_refusal(struct session *, uint16_t status); /* how it shall be refused, if it ends unanswered */

#endif
