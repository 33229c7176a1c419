/*
 * Building a graph from its records. Layer: the top of the graph; everything that builds on a graph
 * takes one that is finished.
 *
 * Cost: O(V + E), and for each 64 dependencies that several revisions share across merges, a pass
 * from the lowest of these to the highest.
 */
#ifndef MIG_CORE_GRAPH_BUILD_H
#define MIG_CORE_GRAPH_BUILD_H

#include "core/graph.h"

/*
 * Build `graph`, which must be new, from `count` records, whose texts are copied.
 *
 * MIG_OK. MIG_EREVISION: `error`, which the caller has initialised, says what is wrong, in the
 * order of Alembic's checks, or that Alembic's own graph must answer. MIG_ENOMEM. After a failure
 * only mig_graph_free may follow. Never blocks.
 */
mig_status mig_graph_build(mig_graph *graph, const mig_record *records, size_t count,
                           mig_graph_error *error);

#endif
