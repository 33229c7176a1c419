/*
 * What a revision has from those below it: dependencies that are theirs already, and labels.
 * RevisionMap._normalize_depends_on and _add_branches of alembic/script/revision.py.
 *
 * All functions are those of a query: see graph_query.h for statuses and ownership. Layer: above
 * graph_walk.h.
 */
#ifndef MIG_CORE_GRAPH_INHERIT_H
#define MIG_CORE_GRAPH_INHERIT_H

#include "core/graph_query.h"

/*
 * For graph_build.c: fill graph->normalized, which has room for all of graph->resolved. `graph` is
 * that of the query; `down`, `next` and `resolved` are there, and without cycles.
 */
mig_status mig_graph_normalize(mig_graph *graph, mig_query *query);

/* For graph_build.c: make the sets of labels and `tip`, after all edges. O(V + E). */
mig_status mig_graph_inherit_labels(mig_graph *graph, mig_query *query);

/* Push the labels in a set, by number, to `labels`. */
mig_status mig_graph_labels(mig_query *query, uint32_t set, mig_nodes *labels);

/* *marks = a new set of the revisions that have a label, given by number. */
mig_status mig_graph_with_label(mig_query *query, uint32_t label, uint64_t **marks);

#endif
