/*
 * The revision graph as data: one node a record (file), numbered in the order given, with its edges
 * both ways; and looking up its keys.
 *
 * Building it is graph_build.h; questions to it are graph_query.h and what includes that. Together
 * they answer every question of RevisionMap in alembic/script/revision.py (read in 1.20.1): same
 * order, same texts. Where Alembic's order is a set's hash order, this one is the order of
 * declaration. What depends on a damaged history in Alembic's own way (an id that is there twice or
 * is 'head', a down_revision that is a branch label, a cycle that Alembic overlooks) is
 * MIG_GRAPH_DECLINED.
 *
 * Ownership: the graph owns all in its arena; names handed out live as long as it does. It is
 * immutable once built, so threads may share it. Cost: memory O(V + E).
 * Layer: above revision.h; below everything that walks.
 */
#ifndef MIG_CORE_GRAPH_H
#define MIG_CORE_GRAPH_H

#include "core/arena.h"
#include "core/revision.h"

/* No nodes: Python's None, and the string 'base' that walks down end in. */
#define MIG_NODE_NONE UINT32_MAX
#define MIG_NODE_BASE (UINT32_MAX - 1)
#define MIG_NODE_MAX (UINT32_MAX / 4)

typedef struct mig_span {
    const uint32_t *items;
    uint32_t count;
} mig_span;

/* Edges of node i: to[start[i]] up to, not including, to[start[i + 1]]. */
typedef struct mig_edges {
    uint32_t *start;
    uint32_t *to;
} mig_edges;

typedef struct mig_graph {
    const mig_alloc *alloc;
    mig_arena arena;
    uint32_t count;
    mig_text *names; /* of nodes */

    /* The keys of Alembic's map in its order: revision ids, then branch labels. */
    mig_text *keys;
    uint32_t *key_node;
    uint32_t key_count;
    uint32_t *buckets; /* hash of a key: its number + 1, or 0 */
    uint32_t bucket_mask;

    mig_edges down;       /* down_revision */
    mig_edges resolved;   /* depends_on, as nodes */
    mig_edges normalized; /* resolved, without those an ancestor depends on too */
    mig_edges all_down;   /* down and resolved, each once */
    mig_edges steps_down; /* down and normalized, each once: Alembic's _normalized_down_revisions */
    mig_edges steps_up;   /* steps_down the other way */
    mig_edges next;       /* revisions that name this one as down revision */
    mig_edges all_next;   /* ... or depend on it */

    /* Labels: number n is key count + n. Sets of them, shared by revisions (graph_inherit.h). */
    uint32_t label_count;
    uint32_t *label_set; /* node -> set, or MIG_NODE_NONE */
    uint32_t label_set_count;
    uint32_t *label_own;   /* set -> first key of the revision whose labels are in it, or NONE */
    mig_edges label_parts; /* set -> other sets, whose labels it has, too */
    uint32_t *tip;         /* node -> the last of its branch's end, or itself */

    mig_span heads, real_heads, bases, real_bases;
    uint64_t work; /* nodes and edges looked at while it was built */
} mig_graph;

/* An empty graph, for mig_graph_build; NULL when out of memory. `alloc` must outlive it. */
mig_graph *mig_graph_new(const mig_alloc *alloc);

/* Free a graph in any state, and all names of it; accepts NULL. */
void mig_graph_free(mig_graph *graph);

/* The node that a revision id or a branch label leads to, or MIG_NODE_NONE (also for no text). */
uint32_t mig_graph_lookup(const mig_graph *graph, mig_text key);

/* The number of a branch label, or MIG_NODE_NONE: also where `key` is an id. */
uint32_t mig_graph_label(const mig_graph *graph, mig_text key);

/* For graph_build.c: add a key that is not there yet. `keys`, `key_node` and `buckets` must have
 * room for it, and the graph must own its text. */
void mig_graph_add_key(mig_graph *graph, mig_text key, uint32_t node);

/* The other ends of the edges of `node`, which must be less than the count of nodes. */
static inline mig_span mig_edges_of(const mig_edges *edges, uint32_t node)
{
    uint32_t start = edges->start[node];
    return (mig_span){edges->to + start, edges->start[node + 1] - start};
}

#endif
