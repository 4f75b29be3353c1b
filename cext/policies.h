/* What the files about policies share: admit.c asks, authz.c judges, rulings.c counts and tells, policies.c keeps. */
#ifndef SEINE_POLICIES_H
#define SEINE_POLICIES_H

#include "authz.h"
#include "exchange.h"

struct policies { /* of one pod */
    struct authz authz;           /* its arrays are in `memory` */
    struct policy_counts **counts; /* of each policy; NULL: there was no room */
    bool needs_http, needs_paths, needs_hosts, has_trials;
    uint64_t memory[];
};

/* admit.c. Of the pod that a session is about to reach; NULL: none, or they are judged at its node. */
const struct policies *policies_at(const struct engine *, const struct session *);
struct authz_facts facts_of(const struct session *, uint8_t known);

/* rulings.c */
bool rulings_begin(struct engine *); /* before the first use; false: no memory */
struct policy_counts *rulings_use(struct engine *, uint64_t policy); /* NULL: there is no room, so nobody counts */
void rulings_leave(struct engine *, const struct policy_counts *);
void rulings_note(struct engine *, const struct session *, const struct policies *, const struct authz_facts *,
                  struct authz_ruling, enum verdict);
void rulings_note_all(struct engine *, const struct session *, const struct policies *, const struct authz_facts *,
                      struct authz_ruling); /* dry runs and audits with it */

#endif
