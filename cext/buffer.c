/* Blocks of 64 KiB, mapped one by one so that a burst's memory goes back to the kernel; a few stay for the next. */
#include <stddef.h>
#include <sys/mman.h>

#include "core.h"

_Static_assert(sizeof(struct block) == BLOCK_BYTES, "a block is not what it says");

struct block *block_lend(struct engine *e)
{
    struct block *block = e->blocks_free;
    if (block) {
        e->blocks_free = block->next;
        LESS(e, buffers_kept);
    } else {
        block = mmap(NULL, sizeof *block, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED) {
            COUNT(e, no_memory);
            return NULL;
        }
    }
    COUNT(e, buffers);
    block->start = block->end = 0;
    return block;
}

struct block *block_get(struct engine *e)
{
    if (e->counters[COUNTER_buffers] < e->config.max_buffers)
        return block_lend(e);
    COUNT(e, buffers_starved);
    e->short_of_blocks = true;
    return NULL;
}

void block_put(struct engine *e, struct block *block)
{
    LESS(e, buffers);
    if (e->counters[COUNTER_buffers_kept] >= BLOCKS_KEPT) {
        munmap(block, sizeof *block);
        return;
    }
    block->next = e->blocks_free;
    e->blocks_free = block;
    COUNT(e, buffers_kept);
}

void blocks_free(struct engine *e)
{
    while (e->blocks_free) {
        struct block *block = e->blocks_free;
        e->blocks_free = block->next;
        munmap(block, sizeof *block);
    }
}
