/* Where tunnels of ours lead: one reach per {source pod, struct whom}, with the tunnels there and the TLS session that the
 * next one resumes. Never shared between identities or between workloads: they are part of the key. */
#ifndef SEINE_REACH_H
#define SEINE_REACH_H

#include "tunnel.h"

struct reach *reach_join(struct engine *, struct tunnel *, const struct whom *); /* NULL: no memory */
/* `session`: owned, may be NULL: for the next. `refused`: its end was one that the next would have too. */
void reach_leave(struct engine *, struct tunnel *, SSL_SESSION *session, bool refused);
/* After a refusal the next handshake waits, longer each time, up to a second: it costs a millisecond of both ends. */
bool reach_waits(const struct engine *, uint32_t slot, const struct whom *);
const struct endpoint_address *reach_address(const struct reach *);
SSL_SESSION *reach_session(const struct engine *, const struct reach *); /* borrowed; NULL: none that is still good */

#endif
