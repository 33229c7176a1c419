/*
 * The order of a range: RevisionMap._topological_sort of alembic/script/revision.py. Layer: above
 * graph_walk.h.
 */
#ifndef MIG_CORE_ORDER_H
#define MIG_CORE_ORDER_H

#include "core/graph_query.h"

/*
 * Push the nodes in `todo`, which is not changed, to `found` in Alembic's order, from `heads`:
 * those of these that are in `todo`. MIG_GRAPH_ASSERTION when some are left that no head leads to.
 * For statuses and ownership see graph_query.h. Cost: O((V + E) log E).
 */
mig_status mig_topological_sort(mig_query *query, const uint64_t *todo, mig_span heads,
                                mig_nodes *found);

#endif
