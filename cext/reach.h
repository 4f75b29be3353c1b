/* Where tunnels of ours lead: one reach per {source pod, who must be there, address}, with the tunnels there and the TLS
 * session that the next one resumes. Never shared between identities: both are part of the key. */
#ifndef SEINE_REACH_H
#define SEINE_REACH_H

#include "tunnel.h"

struct reach *reach_join(struct engine *, struct tunnel *, struct name *peer, const struct endpoint_address *); /* NULL: no memory */
void reach_leave(struct engine *, struct tunnel *, SSL_SESSION *); /* owned, may be NULL: for the next */
SSL_SESSION *reach_session(const struct engine *, const struct reach *); /* borrowed; NULL: none that is still good */

#endif
