#include <stdint.h>
#include <string.h>

#include "pq/batch_internal.h"

/* One block: pointers, numbers, then the values with a NUL behind each. */
mig_status mig_batch_copy_params(const mig_alloc *alloc, const mig_batch_params *params,
                                 mig_batch_params *copy, size_t *bytes, mig_error *error)
{
    enum { EACH = sizeof(char *) + sizeof(Oid) + 2 * sizeof(int) + 1 };
    memset(copy, 0, sizeof *copy);
    *bytes = 0;
    if (params == NULL || params->count == 0)
        return MIG_OK;
    size_t count = (size_t)params->count;
    for (size_t i = 0; i < count; i++)
        if (params->values[i] != NULL)
            *bytes += (size_t)params->lengths[i]; /* fewer than INT_MAX values of INT_MAX bytes */
    char *block = mig_alloc_array(alloc, 1, count * EACH + *bytes);
    if (block == NULL)
        return mig_fail_memory(error);
    const char **values = (const char **)block;
    Oid *types = (Oid *)(values + count);
    int *lengths = (int *)(types + count), *formats = lengths + count;
    char *next = (char *)(formats + count);
    for (size_t i = 0; i < count; i++) {
        types[i] = params->types[i];
        formats[i] = params->formats[i];
        if (params->values[i] == NULL)
            continue;
        lengths[i] = params->lengths[i];
        values[i] = next;
        memcpy(next, params->values[i], (size_t)lengths[i]);
        next += lengths[i] + 1;
    }
    *copy = (mig_batch_params){params->count, types, values, lengths, formats};
    return MIG_OK;
}

void mig_batch_release_params(const mig_alloc *alloc, mig_batch_params *params)
{
    alloc->release(alloc->ctx, (void *)params->values);
    memset(params, 0, sizeof *params);
}
