/*
 * A set of small numbers that finds the next one in it: bits, and for each 64 of them one bit a
 * level higher, up to a single word.
 *
 * Ownership: the struct is the caller's, its words are in the arena given. One thread at a time.
 * Cost: 1/64 more memory than the bits; each operation looks at one word a level.
 * Layer: above arena.h.
 */
#ifndef MIG_CORE_PLACE_SET_H
#define MIG_CORE_PLACE_SET_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/status.h"

enum { MIG_PLACE_LEVELS = 6 };

typedef struct mig_place_set {
    uint64_t *levels[MIG_PLACE_LEVELS];
    size_t size[MIG_PLACE_LEVELS]; /* in bits */
    int count;
} mig_place_set;

/* Make *set, which must be all zero, an empty set of numbers below `count`. MIG_OK; MIG_ENOMEM,
 * also for a `count` that does not fit: the set may not be used. */
mig_status mig_place_set_init(mig_place_set *set, mig_arena *arena, size_t count);

/* Put `place` into the set, or take it out. */
void mig_place_set_put(mig_place_set *set, uint32_t place, bool is_there);

/* The first number in the set from `place` on and before `end`, or `end`. */
uint32_t mig_place_set_next(const mig_place_set *set, uint32_t place, uint32_t end);

#endif
