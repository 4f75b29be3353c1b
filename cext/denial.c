/* Identities that are denied, between two pods of this node. By tunnel they fail their handshakes (peer.c), and what is
 * open ends with the tunnel (reach.c, carry.c). Within the node nobody shakes hands: the kernel proves both pods, so the
 * same list is asked about them here. Who came in by no tunnel has proven nothing, and is not judged. */
#include "credential.h"

static bool denies(const struct engine *e, const struct name *identity)
{
    return identity && trust_denies(e, identity->text);
}

bool identity_is_denied(const struct engine *e, const struct session *s)
{
    const struct target *target = s->dial.target;
    bool here = s->direction == ENGINE_OUTBOUND && target->slot >= 0 && !goes_by_tunnel(s, target);
    const struct pod *pod = here ? pod_find(e, (uint32_t)target->slot) : NULL;
    return pod && (denies(e, s->identity) || denies(e, pod->principal));
}

/* An HTTP client between two requests is told at its next one. */
void identities_judge(struct engine *e)
{
    struct list *next;
    for (struct list *at = e->sessions.all.next; at != &e->sessions.all; at = next) {
        struct session *s = container_of(at, struct session, all);
        next = at->next;
        if (!s->dial.target || !identity_is_denied(e, s))
            continue;
        COUNT(e, identity_ended);
        session_end(e, s, FLAG_UAEX, true, true);
    }
}
