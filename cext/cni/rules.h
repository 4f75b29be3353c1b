/*
 * What the agent leaves for the time when it is away: a line `closed NAMESPACE` for each namespace whose pods must not
 * start outside of the mesh. A file that is missing, that is not root's own or that others may write says nothing.
 */
#ifndef SEINE_CNI_RULES_H
#define SEINE_CNI_RULES_H

#include <stdbool.h>

bool is_closed(const char *path, const char *namespace);

#endif
