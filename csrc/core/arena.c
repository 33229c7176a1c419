#include "core/arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct mig_arena_block {
    alignas(max_align_t) mig_arena_block *previous;
};

static void *system_allocate(void *ctx, size_t size)
{
    (void)ctx;
    return malloc(size);
}

static void system_release(void *ctx, void *pointer)
{
    (void)ctx;
    free(pointer);
}

const mig_alloc mig_alloc_system = {system_allocate, system_release, NULL};

void mig_arena_init(mig_arena *arena, const mig_alloc *alloc)
{
    arena->alloc = alloc;
    arena->blocks = NULL;
    arena->next = NULL;
    arena->end = NULL;
}

void mig_arena_release(mig_arena *arena)
{
    while (arena->blocks != NULL) {
        mig_arena_block *block = arena->blocks;
        arena->blocks = block->previous;
        arena->alloc->release(arena->alloc->ctx, block);
    }
    arena->next = NULL;
    arena->end = NULL;
}

void *mig_arena_get(mig_arena *arena, size_t size)
{
    const size_t align = alignof(max_align_t);
    if (size > SIZE_MAX - align - sizeof(mig_arena_block))
        return NULL;
    size = size == 0 ? align : (size + align - 1) / align * align;
    if ((size_t)(arena->end - arena->next) < size) {
        size_t payload = size > MIG_ARENA_BLOCK ? size : MIG_ARENA_BLOCK;
        mig_arena_block *block =
            arena->alloc->allocate(arena->alloc->ctx, sizeof(mig_arena_block) + payload);
        if (block == NULL)
            return NULL;
        block->previous = arena->blocks;
        arena->blocks = block;
        arena->next = (char *)(block + 1);
        arena->end = arena->next + payload;
    }
    void *pointer = arena->next;
    arena->next += size;
    return pointer;
}

void *mig_arena_get_array(mig_arena *arena, size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size)
        return NULL;
    return mig_arena_get(arena, count * size);
}

uint32_t *mig_arena_filled(mig_arena *arena, size_t count, uint32_t value)
{
    uint32_t *items = mig_arena_get_array(arena, count, sizeof *items);
    for (size_t i = 0; items != NULL && i < count; i++)
        items[i] = value;
    return items;
}

char *mig_arena_copy(mig_arena *arena, const char *text, size_t length)
{
    if (length == SIZE_MAX)
        return NULL;
    char *copy = mig_arena_get(arena, length + 1);
    if (copy == NULL)
        return NULL;
    if (length > 0)
        memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

void *mig_alloc_array(const mig_alloc *alloc, size_t count, size_t size)
{
    if (size != 0 && count > SIZE_MAX / size)
        return NULL;
    size_t bytes = count * size;
    void *pointer = alloc->allocate(alloc->ctx, bytes > 0 ? bytes : 1);
    if (pointer != NULL)
        memset(pointer, 0, bytes);
    return pointer;
}
