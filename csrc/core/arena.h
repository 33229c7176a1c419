/*
 * Memory that is freed together: one arena a graph, one a file set, one a query.
 *
 * An arena takes blocks from the mig_alloc table that its caller gives, so that a test can make
 * the N-th allocation fail. Nothing in an arena is freed by itself. Pointers stay valid until
 * mig_arena_release.
 *
 * Ownership: the caller owns the mig_arena struct; the arena owns its blocks. Not thread-safe.
 * Layer: the lowest. Cost: O(1) an allocation, apart from a new block each MIG_ARENA_BLOCK bytes.
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

/* Make an empty arena; takes no memory. `alloc` must outlive it. */
void mig_arena_init(mig_arena *arena, const mig_alloc *alloc);

/* Free all blocks; leaves an empty arena that can be used again. */
void mig_arena_release(mig_arena *arena);

/* `size` bytes, aligned for any type, not zeroed; NULL when out of memory. */
void *mig_arena_get(mig_arena *arena, size_t size);

/* The same for `count` items of `size` bytes; NULL also when the product overflows. */
void *mig_arena_get_array(mig_arena *arena, size_t count, size_t size);

/* A list of `count` numbers, all `value`; NULL as above. */
uint32_t *mig_arena_filled(mig_arena *arena, size_t count, uint32_t value);

/* A copy of `length` bytes, with a NUL behind it; NULL when out of memory. */
char *mig_arena_copy(mig_arena *arena, const char *text, size_t length);

/* Zeroed memory from a mig_alloc table, for what outgrows an arena: free it with alloc->release.
 * NULL when out of memory, or when the product overflows. */
void *mig_alloc_array(const mig_alloc *alloc, size_t count, size_t size);

#endif
