/*
 * One question to the agent: the runtime's variables and configuration, with the pod's network namespace as a
 * descriptor, so that no path has to mean the same to both. Answers come within DEADLINE_MS or are none.
 *
 *     question   4 bytes length (this machine's order), NAME=VALUE\0 for each CNI_ variable, \0, the configuration
 *     answer     '+' (the pod may start), or '-' and a sentence why not; then the end of the stream
 */
#ifndef SEINE_CNI_ASK_H
#define SEINE_CNI_ASK_H

#include "json.h"

enum { DEADLINE_MS = 5000, PATH_BYTES = 108 /* of a Unix socket */, NAME_BYTES = 254, SENTENCE_BYTES = 512 };

enum verdict { STARTS, REFUSED, AWAY };

struct asked {
    enum verdict verdict;
    char sentence[SENTENCE_BYTES]; /* of REFUSED and AWAY */
};

/* An agent that is not root's is nobody's. */
void ask(const char *path, struct text configuration, struct asked *asked);

/* A value of CNI_ARGS; false when it is not there or too long. */
bool argument(const char *name, char *out, size_t size);

#endif
