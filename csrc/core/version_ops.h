/*
 * Operations on the version table: what a step writes. One type from the graph, which finds them
 * (steps.h), to the SQL (pq/version_table.h).
 *
 * Ownership: texts are borrowed; the function that fills a mig_version_op documents how long they
 * live. Layer: above arena.h and text.h only.
 */
#ifndef MIG_CORE_VERSION_OPS_H
#define MIG_CORE_VERSION_OPS_H

#include "core/arena.h"
#include "core/status.h"
#include "core/text.h"

typedef enum mig_version_op_kind {
    MIG_VERSION_INSERT, /* to */
    MIG_VERSION_DELETE, /* from */
    MIG_VERSION_UPDATE  /* from, to */
} mig_version_op_kind;

typedef struct mig_version_op {
    mig_version_op_kind kind;
    uint32_t step;     /* number of the step it belongs to */
    mig_text from, to; /* those that the kind does not have are MIG_NO_TEXT */
} mig_version_op;

/* A list in an arena, which grows by doubling. All zero: empty. */
typedef struct mig_version_ops {
    mig_version_op *items;
    uint32_t count, capacity;
} mig_version_ops;

/* Append `op`. MIG_OK, or MIG_ENOMEM: the list is as before. */
mig_status mig_version_ops_push(mig_version_ops *ops, mig_arena *arena, mig_version_op op);

#endif
