#include "core/version_ops.h"

mig_status mig_version_ops_push(mig_version_ops *ops, mig_arena *arena, mig_version_op op)
{
    if (ops->count == ops->capacity) {
        if (ops->capacity > UINT32_MAX / 4)
            return MIG_ENOMEM;
        uint32_t capacity = ops->capacity < 16 ? 16 : ops->capacity * 2;
        mig_version_op *items = mig_arena_get_array(arena, capacity, sizeof *items);
        if (items == NULL)
            return MIG_ENOMEM;
        if (ops->count > 0)
            memcpy(items, ops->items, ops->count * sizeof *items);
        ops->items = items;
        ops->capacity = capacity;
    }
    ops->items[ops->count++] = op;
    return MIG_OK;
}
