#include "core/place_set.h"

#include <string.h>

mig_status mig_place_set_init(mig_place_set *set, mig_arena *arena, size_t count)
{
    do {
        if (set->count == MIG_PLACE_LEVELS)
            return MIG_ENOMEM;
        set->size[set->count] = count;
        count = (count + 63) / 64;
        uint64_t *words = mig_arena_get_array(arena, count, sizeof *words);
        if (words == NULL)
            return MIG_ENOMEM;
        memset(words, 0, count * sizeof *words);
        set->levels[set->count++] = words;
    } while (count > 1);
    return MIG_OK;
}

void mig_place_set_put(mig_place_set *set, uint32_t place, bool is_there)
{
    for (int level = 0; level < set->count; level++, place /= 64) {
        uint64_t *word = &set->levels[level][place / 64], bit = (uint64_t)1 << (place % 64);
        bool was_empty = *word == 0;
        *word = is_there ? *word | bit : *word & ~bit;
        if (is_there ? !was_empty : *word != 0)
            return;
    }
}

static uint32_t lowest_bit(uint64_t word)
{
    uint32_t bit = 0;
    for (uint32_t half = 32; half > 0; half /= 2) {
        if ((word & (((uint64_t)1 << half) - 1)) == 0) {
            word >>= half;
            bit += half;
        }
    }
    return bit;
}

uint32_t mig_place_set_next(const mig_place_set *set, uint32_t place, uint32_t end)
{
    uint32_t at = place;
    for (int level = 0; level < set->count && at < set->size[level]; level++) {
        uint64_t word = set->levels[level][at / 64] >> (at % 64);
        if (word == 0) {
            at = at / 64 + 1;
            continue;
        }
        at += lowest_bit(word);
        while (level-- > 0)
            at = at * 64 + lowest_bit(set->levels[level][at]);
        return at < end ? at : end;
    }
    return end;
}
