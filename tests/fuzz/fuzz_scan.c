/* libFuzzer target for the scanner: any bytes, both docstring rules, and an allocation that fails.
 */
#include <stdlib.h>
#include <string.h>

#include "core/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *allocate_until(void *ctx, size_t size)
{
    size_t *left = ctx;
    if (*left == 0)
        return NULL;
    --*left;
    return malloc(size);
}

static void release(void *ctx, void *pointer)
{
    (void)ctx;
    free(pointer);
}

static size_t sum;

static void read_value(const mig_scan_value *value)
{
    for (size_t i = 0; i < value->count; i++)
        for (size_t k = 0; k < value->items[i].length; k++)
            sum += (unsigned char)value->items[i].text[k];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    mig_status all[2];
    for (size_t run = 0; run < 4; run++) {
        size_t left = run == 2 ? 0 : run == 3 ? 1 : SIZE_MAX;
        mig_alloc alloc = {allocate_until, release, &left};
        mig_arena arena;
        mig_scan_result result;
        mig_error error;
        mig_arena_init(&arena, &alloc);
        mig_status status =
            mig_scan((const char *)data, size, run % 2 == 1, &arena, &result, &error);
        read_value(&result.revision);
        read_value(&result.down_revision);
        read_value(&result.branch_labels);
        read_value(&result.depends_on);
        read_value(&result.doc);
        if (status != MIG_OK && status != MIG_EDECLINED && status != MIG_ENOMEM)
            abort();
        if (status == MIG_EDECLINED && (error.line == 0 || error.offset > size))
            abort();
        if (run < 2)
            all[run] = status;
        mig_arena_release(&arena);
    }
    if (all[0] != all[1])
        abort();
    return 0;
}
