/*
 * The steps of a run, and what each of them writes to the version table.
 *
 * A step is a migration (one revision up or down) or a stamp (from some heads to others). Which
 * rows it inserts, updates and deletes depends on the heads before it: the rules are those of
 * RevisionStep, StampStep and HeadMaintainer.update_to_step in alembic/runtime/migration.py (read
 * in 1.20.1), and for the steps of a stamp those of ScriptDirectory._stamp_revs in
 * alembic/script/base.py.
 *
 * Functions that take a query have its statuses and ownership: see graph_query.h. Cost: O(V + E)
 * for a run of steps; a merge or its undoing with other heads in the table also looks at the edges
 * that lead across from what those heads imply. Layer: above resolve.h and version_ops.h.
 */
#ifndef MIG_CORE_STEPS_H
#define MIG_CORE_STEPS_H

#include "core/graph_query.h"
#include "core/version_ops.h"

typedef struct mig_step {
    bool is_stamp;
    bool is_upgrade;
    uint32_t node;    /* of a migration */
    bool branch_move; /* of a stamp: a row comes or goes */
    mig_ids from, to; /* of a stamp */
} mig_step;

/*
 * Push what `steps` write to `ops`, in order, beginning with the rows `heads` in the table. The
 * list is in the query's arena; its texts are borrowed from the graph, `heads` and `steps`.
 * MIG_GRAPH_ASSERTION and MIG_GRAPH_KEY where Alembic's assertions fail.
 */
mig_status mig_steps_version_ops(mig_query *query, mig_ids heads, const mig_step *steps,
                                 size_t count, mig_version_ops *ops);

/*
 * The same for callers who learn of a run's steps one by one: what the table held after the last
 * one is kept, and only what differs from it is looked at. One thread at a time.
 */
typedef struct mig_step_tracker mig_step_tracker;

/* NULL when out of memory. `graph` must outlive it. */
mig_step_tracker *mig_step_tracker_new(const mig_graph *graph);

/* Accepts NULL. */
void mig_step_tracker_free(mig_step_tracker *tracker);

/*
 * Push what `step` writes to `ops`, with the rows `heads` in the table. The list and its texts live
 * until the next call. `error` is the caller's, initialised. After a failure the tracker can be
 * used again: it starts anew.
 */
mig_status mig_step_tracker_step(mig_step_tracker *tracker, mig_ids heads, const mig_step *step,
                                 mig_version_ops *ops, mig_graph_error *error);

/* *steps = the *count steps that lead from the rows `heads` to `destinations`, in the query's
 * arena. */
mig_status mig_stamp_steps(mig_query *query, mig_ids destinations, mig_ids heads, mig_step **steps,
                           size_t *count);

#endif
