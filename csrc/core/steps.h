/*
 * What a run of steps writes into the version table.
 *
 * A step is a migration (one revision up or down) or a stamp (from some heads to others). Which
 * rows it inserts, updates and deletes depends on the heads before it: the rules are those of
 * RevisionStep, StampStep and HeadMaintainer.update_to_step in alembic/runtime/migration.py (read
 * in 1.20.1), those of stamping of ScriptDirectory._stamp_revs in alembic/script/base.py.
 *
 * Ownership: answers live in the query's arena, or are names of the question. Cost: O(V + E) for a
 * run of steps; a merge or its undoing with other heads in the table adds a look at the edges
 * between lines that come from what those heads cover, up to where it stands.
 */
#ifndef MIG_CORE_STEPS_H
#define MIG_CORE_STEPS_H

#include "core/graph.h"

typedef struct mig_step {
    bool is_stamp;
    bool is_upgrade;
    uint32_t node;    /* of a migration */
    bool branch_move; /* of a stamp: a row comes or goes */
    mig_ids from, to; /* of a stamp */
} mig_step;

typedef enum mig_operation_kind {
    MIG_VERSION_INSERT, /* to */
    MIG_VERSION_DELETE, /* from */
    MIG_VERSION_UPDATE
} mig_operation_kind;

typedef struct mig_operation {
    mig_operation_kind kind;
    uint32_t step; /* number of the step it belongs to */
    mig_name from, to;
} mig_operation;

typedef struct mig_operations {
    mig_operation *items;
    uint32_t count, capacity;
} mig_operations;

/* The operations of `steps`, in order, from the rows `heads` on. */
mig_status mig_version_operations(mig_query *query, mig_ids heads, const mig_step *steps,
                                  size_t count, mig_operations *operations);

/*
 * The same for callers who learn of a run's steps one by one: what the table held after the last
 * one is kept, and only what differs from it is looked at. Not for two threads at once.
 */
typedef struct mig_version_rows mig_version_rows;
mig_version_rows *mig_version_rows_new(const mig_graph *graph); /* NULL when out of memory */
void mig_version_rows_free(mig_version_rows *rows);             /* accepts NULL */
/* Operations live until the next call. `error` is the caller's, initialised. */
mig_status mig_version_rows_step(mig_version_rows *rows, mig_ids heads, const mig_step *step,
                                 mig_operations *operations, mig_graph_error *error);

/* The steps that lead from `heads` to `destinations`: at most `*count`, in the query's arena. */
mig_status mig_stamp_steps(mig_query *query, mig_ids destinations, mig_ids heads, mig_step **steps,
                           size_t *count);

#endif
