/*
 * Memory that lives together and dies together: one arena a graph, one a file set, one a batch.
 *
 * An arena takes blocks from the mig_alloc table that its caller gives, so that a test can make
 * the N-th allocation fail. Nothing in an arena is freed alone. Pointers stay valid until
 * mig_arena_release.
 *
 * Ownership: the caller owns the mig_arena struct; the arena owns its blocks. Not thread-safe.
 * Cost: O(1) an allocation, apart from a new block each MIG_ARENA_BLOCK bytes.
 */
#ifndef MIG_CORE_ARENA_H
#define MIG_CORE_ARENA_H

#include <stddef.h>
#include <stdint.h>

typedef struct mig_alloc {
    void *(*allocate)(void *ctx, size_t size); /* NULL on failure; aligned for any type */
    void (*release)(void *ctx, void *pointer); /* accepts NULL */
    void *ctx;
} mig_alloc;

/* malloc and free. */
extern const mig_alloc mig_alloc_system;

#define MIG_ARENA_BLOCK ((size_t)16 * 1024)

typedef struct mig_arena_block mig_arena_block;

typedef struct mig_arena {
    const mig_alloc *alloc;
    mig_arena_block *blocks;
    char *next;
    char *end;
} mig_arena;

void mig_arena_init(mig_arena *arena, const mig_alloc *alloc);
void mig_arena_release(mig_arena *arena); /* leaves an empty arena that can be used again */

/* NULL when out of memory or when count * size overflows. Memory is not zeroed. */
void *mig_arena_get(mig_arena *arena, size_t size);
void *mig_arena_get_array(mig_arena *arena, size_t count, size_t size);

/* A list of `count` numbers, all `value`; NULL as above. */
uint32_t *mig_arena_filled(mig_arena *arena, size_t count, uint32_t value);

/* A NUL-terminated copy of `length` bytes. */
char *mig_arena_copy(mig_arena *arena, const char *text, size_t length);

/* As calloc and free, over a mig_alloc table: for what outgrows an arena. */
void *mig_alloc_array(const mig_alloc *alloc, size_t count, size_t size);

#endif
