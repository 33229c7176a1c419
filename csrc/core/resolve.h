/*
 * What a person may type for revisions, and ranges between two of those. Each function is the
 * method of RevisionMap that its comment names: same answers, same errors, in the same order.
 *
 * All functions are those of a query: see graph_query.h for statuses and ownership. Layer: above
 * graph_walk.h, graph_inherit.h and order.h.
 */
#ifndef MIG_CORE_RESOLVE_H
#define MIG_CORE_RESOLVE_H

#include "core/graph_query.h"

/* _resolve_revision_number: *resolved = the ids that `id` stands for, *branch = the branch that it
 * names, or MIG_NO_TEXT. Both may borrow from `id`. */
mig_status mig_resolve_number(mig_query *query, mig_ids id, mig_ids *resolved, mig_text *branch);

/* get_revisions: push nodes, MIG_NODE_NONE and MIG_NODE_BASE to `found`. */
mig_status mig_get_revisions(mig_query *query, mig_ids id, mig_nodes *found);

/* get_revision: *found = a node, MIG_NODE_NONE or MIG_NODE_BASE. */
mig_status mig_get_revision(mig_query *query, mig_text id, uint32_t *found);

/* filter_for_lineage: push those of `targets` that share a lineage with `against` to `found`. */
mig_status mig_filter_for_lineage(mig_query *query, mig_span targets, mig_text against,
                                  bool include_dependencies, mig_nodes *found);

/* _get_all_current: push the revisions that `ids` imply and that are heads among these to `found`,
 * in order of declaration. */
mig_status mig_all_current(mig_query *query, mig_ids ids, mig_nodes *found);

typedef struct mig_range {
    mig_ids upper, lower;
    bool implicit_base, inclusive, assert_relative_length, select_for_downgrade;
} mig_range;

/* iterate_revisions: push the revisions of the range to `found`, the latest first. MIG_GRAPH_RANGE
 * where `lower` is no ancestor of `upper`. */
mig_status mig_iterate(mig_query *query, const mig_range *range, mig_nodes *found);

#endif
