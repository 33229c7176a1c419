/*
 * The revision graph: one node a record (file), numbered in the order given, with its edges both
 * ways.
 *
 * Answers every question of RevisionMap in alembic/script/revision.py (read in 1.20.1): same order,
 * same texts. Where Alembic's order is a set's hash order, ours is the order of declaration. What
 * depends on a damaged history in Alembic's own way (an id that is there twice or is 'head', a
 * down_revision that is a branch label, a cycle that Alembic overlooks) is MIG_GRAPH_DECLINED.
 *
 * Ownership: the graph owns all in its arena; names handed out live as long as it does. It is
 * immutable once built, so threads may share it. Queries keep their marks in their own arenas.
 * Cost: time and memory O(V + E); an ordered range O((V + E) log E). Building adds, for each 64
 * dependencies that several share across merges, a pass from the lowest of these to the highest.
 */
#ifndef MIG_CORE_GRAPH_H
#define MIG_CORE_GRAPH_H

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
    mig_name *names; /* of nodes */

    /* The keys of Alembic's map in its order: revision ids, then branch labels. */
    mig_name *keys;
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
    mig_edges next;       /* who names this one as down revision */
    mig_edges all_next;   /* ... or depends on it */

    /* Labels: number n is key count + n. Sets of them, shared by revisions (inherit.c). */
    uint32_t label_count;
    uint32_t *label_set; /* node -> set, or MIG_NODE_NONE */
    uint32_t label_set_count;
    uint32_t *label_own;   /* set -> first key of the revision whose labels are in it, or NONE */
    mig_edges label_parts; /* set -> other sets, all of which is in it */
    uint32_t *tip;         /* node -> the last of its branch's end, or itself */

    mig_span heads, real_heads, bases, real_bases;
    uint64_t work; /* nodes and edges looked at while it was built */
} mig_graph;

/* NULL when out of memory. */
mig_graph *mig_graph_new(const mig_alloc *alloc);
void mig_graph_free(mig_graph *graph); /* accepts NULL */

/* Once per graph; after a failure only mig_graph_free may follow. */
mig_status mig_graph_build(mig_graph *graph, const mig_record *records, size_t count,
                           mig_graph_error *error);

/* The node that a revision id or a branch label leads to, or MIG_NODE_NONE. */
uint32_t mig_graph_lookup(const mig_graph *graph, mig_name key);
/* The number of a branch label, or MIG_NODE_NONE. */
uint32_t mig_graph_label(const mig_graph *graph, mig_name key);

static inline mig_span mig_edges_of(const mig_edges *edges, uint32_t node)
{
    uint32_t start = edges->start[node];
    return (mig_span){edges->to + start, edges->start[node + 1] - start};
}

/*
 * A question. Marks and lists live in its arena until mig_query_release; answers are spans there.
 * Every function returns MIG_OK, MIG_EREVISION with `error` filled, or MIG_ENOMEM.
 */
typedef struct mig_query {
    const mig_graph *graph;
    mig_arena arena;
    mig_graph_error *error; /* the caller's, initialised */
    uint64_t work;          /* nodes and edges looked at so far: what tests bound */
} mig_query;

void mig_query_init(mig_query *query, const mig_graph *graph, mig_graph_error *error);
void mig_query_release(mig_query *query);

/* Leave the function with the status of `call` unless that is MIG_OK. For queries only: they free
 * at once. */
#define MIG_TRY(call)                                                                              \
    do {                                                                                           \
        mig_status mig_try_status = (call);                                                        \
        if (mig_try_status != MIG_OK)                                                              \
            return mig_try_status;                                                                 \
    } while (0)

/* What Alembic asserts did not hold: MIG_GRAPH_ASSERTION with `text`. */
mig_status mig_query_assert(mig_query *query, const char *text);

/* What stands for a revision in a question: Python's None, one string, or a sequence of those. */
typedef struct mig_ids {
    const mig_name *items; /* None is a name without text */
    size_t count;
    bool is_sequence;
} mig_ids;

/* A growing list in a query's arena. */
typedef struct mig_nodes {
    uint32_t *items;
    uint32_t count;
    uint32_t capacity;
} mig_nodes;

mig_status mig_nodes_push(mig_query *query, mig_nodes *nodes, uint32_t node);

/* walk.c ------------------------------------------------------------------------------------- */

/* A set of nodes, empty; NULL when out of memory. */
uint64_t *mig_query_marks(mig_query *query);

static inline bool mig_marked(const uint64_t *marks, uint32_t node)
{
    return (marks[node / 64] >> (node % 64)) & 1u;
}

static inline void mig_mark(uint64_t *marks, uint32_t node)
{
    marks[node / 64] |= (uint64_t)1 << (node % 64);
}

static inline void mig_unmark(uint64_t *marks, uint32_t node)
{
    marks[node / 64] &= ~((uint64_t)1 << (node % 64));
}

/*
 * Everything reached from `targets` along `edges`, themselves included, in Alembic's order: into
 * `found` (may be NULL) and `marks` (may hold nodes already: those count as seen). check: an
 * error when a target is reached from another one. A target that is no node is an error in its
 * turn.
 */
mig_status mig_walk(mig_query *query, const mig_edges *edges, mig_span targets, bool check,
                    uint64_t *marks, mig_nodes *found);

/*
 * How long the longest way to each node along `up` is; MIG_NODE_NONE on a cycle and above one.
 * `order`: those with a rank, the lowest first. An edge must not be there twice.
 */
mig_status mig_rank(mig_query *query, const mig_edges *up, uint32_t **rank, uint32_t **order);

/*
 * The forest of first edges of `down`, as ranges of its preorder. `end`: how many places a node
 * takes itself; then where its range ends, which begins at `begin` and holds all that stands on it.
 */
mig_status mig_forest(mig_query *query, const mig_edges *down, const uint32_t *order,
                      uint32_t *begin, uint32_t *end);

/*
 * steps_down as lines: the forest of its first edges, with a place (a leaf) for each node, the
 * first of its range, and one for each other edge, in the range of its lower end. So what is above
 * a node is its range, and what is above the upper ends of the edges that have a leaf there. An
 * edge beside a way in the forest says nothing new and is left out.
 */
typedef struct mig_lines {
    uint32_t *rank, *order; /* see mig_rank */
    uint32_t *begin, *end;  /* node -> its range of leaves */
    uint32_t *from;         /* leaf -> the node, or the upper end of the edge */
    uint32_t *edge_leaf;    /* edge of steps_down -> leaf, or MIG_NODE_NONE */
    uint32_t leaf_count;
} mig_lines;

mig_status mig_lay_lines(mig_query *query, mig_lines *lines);

/* inherit.c ---------------------------------------------------------------------------------- */

/* Two steps of building. */
mig_status mig_normalize(mig_graph *graph, mig_query *query);
mig_status mig_carry_labels(mig_graph *graph, mig_query *query);

/* The labels in a set, by number. */
mig_status mig_labels(mig_query *query, uint32_t set, mig_nodes *labels);
/* The revisions that have a label. */
mig_status mig_with_label(mig_query *query, uint32_t label, uint64_t **marks);

/* resolve.c ---------------------------------------------------------------------------------- */

/* RevisionMap._resolve_revision_number: the ids, and the branch label or MIG_NO_NAME. */
mig_status mig_resolve_number(mig_query *query, mig_ids id, mig_ids *resolved, mig_name *branch);
/* RevisionMap.get_revisions: nodes, MIG_NODE_NONE, MIG_NODE_BASE. */
mig_status mig_get_revisions(mig_query *query, mig_ids id, mig_nodes *found);
/* RevisionMap.get_revision. */
mig_status mig_get_revision(mig_query *query, mig_name id, uint32_t *found);
/* RevisionMap.filter_for_lineage. */
mig_status mig_filter_for_lineage(mig_query *query, mig_span targets, mig_name against,
                                  bool include_dependencies, mig_nodes *found);
/* RevisionMap._get_all_current, in order of declaration. */
mig_status mig_all_current(mig_query *query, mig_ids ids, mig_nodes *found);

typedef struct mig_range {
    mig_ids upper, lower;
    bool implicit_base, inclusive, assert_relative_length, select_for_downgrade;
} mig_range;

/* RevisionMap.iterate_revisions. */
mig_status mig_iterate(mig_query *query, const mig_range *range, mig_nodes *found);

/* order.c ------------------------------------------------------------------------------------ */

/* RevisionMap._topological_sort of the nodes in `todo`, from `heads`. */
mig_status mig_topological_sort(mig_query *query, const uint64_t *todo, mig_span heads,
                                mig_nodes *found);

#endif
