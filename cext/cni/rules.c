/* See rules.h. */
#define _GNU_SOURCE /* getline */
#include "rules.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char word[] = "closed ";

static FILE *open_own(const char *path)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (file < 0)
        return NULL;
    if (fstat(file, &status) || !S_ISREG(status.st_mode) || status.st_uid || status.st_mode & (S_IWGRP | S_IWOTH)) {
        fprintf(stderr, "seine: %s is not a file that only root may write, so it is not believed\n", path);
        close(file);
        return NULL;
    }
    return fdopen(file, "r");
}

bool is_closed(const char *path, const char *namespace)
{
    FILE *file = open_own(path);
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    while (file && !found && getline(&line, &room, file) > 0) {
        line[strcspn(line, "\n")] = 0;
        found = !strncmp(line, word, sizeof(word) - 1) && !strcmp(line + sizeof(word) - 1, namespace);
    }
    free(line);
    if (file)
        fclose(file);
    return found;
}
