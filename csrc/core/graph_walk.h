/*
 * Walks along the edges of a graph, and orders and ranges that make later questions cheap.
 *
 * All functions are those of a query: see graph_query.h for statuses and ownership. Each is
 * O(V + E). No recursion. Layer: above graph_query.h.
 */
#ifndef MIG_CORE_GRAPH_WALK_H
#define MIG_CORE_GRAPH_WALK_H

#include "core/graph_query.h"

/*
 * Everything reached from `targets` along `edges`, themselves included, in Alembic's order: into
 * `found` (may be NULL) and `marks` (may hold nodes already: those count as seen).
 *
 * check: MIG_GRAPH_REVISION when a target is reached from another one. A target that is no node is
 * MIG_GRAPH_ASSERTION when its turn comes.
 */
mig_status mig_graph_walk(mig_query *query, const mig_edges *edges, mig_span targets, bool check,
                          uint64_t *marks, mig_nodes *found);

/*
 * *rank: node -> length of the longest way to it along `up`, or MIG_NODE_NONE on a cycle and above
 * one. *order: the nodes that have a rank, the lowest first. An edge must not be there twice.
 */
mig_status mig_graph_rank(mig_query *query, const mig_edges *up, uint32_t **rank, uint32_t **order);

/*
 * The forest of the first edges of `down`, as ranges of its preorder. `end` is given as the number
 * of places that each node takes itself; afterwards the range of a node, which holds all its
 * descendants in the forest, goes from `begin` up to `end`. order: of all nodes, from
 * mig_graph_rank.
 */
mig_status mig_graph_forest(mig_query *query, const mig_edges *down, const uint32_t *order,
                            uint32_t *begin, uint32_t *end);

/*
 * An index of what is above a node along steps_down: the forest of its first edges, with a place (a
 * leaf) for each node, the first of its range, and one for each other edge, in the range of its
 * lower end. What is above a node is its range, and what is above the upper ends of the edges that
 * have a leaf there. An edge whose ends the forest connects already is left out.
 */
typedef struct mig_ancestry {
    uint32_t *rank, *order; /* see mig_graph_rank */
    uint32_t *begin, *end;  /* node -> its range of leaves */
    uint32_t *from;         /* leaf -> the node, or the upper end of the edge */
    uint32_t *edge_leaf;    /* edge of steps_down -> leaf, or MIG_NODE_NONE */
    uint32_t leaf_count;
} mig_ancestry;

/* Fill *ancestry, in the query's arena. */
mig_status mig_graph_ancestry(mig_query *query, mig_ancestry *ancestry);

#endif
