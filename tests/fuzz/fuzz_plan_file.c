/*
 * Any bytes as the body of a plan file whose hash is right: read, or refused. As they stand, they
 * are refused, and so is a zero byte anywhere.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/plan_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char hex[MIG_SHA256_HEX + 1];
    mig_sha256 hash;
    mig_arena arena;
    mig_plan_file plan;
    mig_error error;
    char *text = malloc(size + MIG_SHA256_HEX + 8);
    if (text == NULL)
        return 0;
    mig_sha256_init(&hash);
    mig_sha256_add(&hash, data, size);
    mig_sha256_hex(&hash, hex);
    if (size > 0)
        memcpy(text, data, size);
    size_t length = size + (size_t)sprintf(text + size, "end %s\n", hex);
    mig_arena_init(&arena, &mig_alloc_system);
    if (mig_plan_file_read(text, length, &arena, &plan, &error) == MIG_OK) {
        size_t items = 0;
        for (size_t i = 0; i < plan.function_count; i++)
            items += plan.functions[i].count;
        if (items != plan.item_count || memchr(text, '\0', size) != NULL)
            abort();
        text[size / 2] = (char)(text[size / 2] ^ 1);
        if (mig_plan_file_read(text, length, &arena, &plan, &error) == MIG_OK)
            abort();
    }
    mig_arena_release(&arena);
    free(text);
    return 0;
}
