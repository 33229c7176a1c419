/*
 * A question to a graph: the memory that it needs, the error it may end with, lists and sets of
 * nodes, and what stands for a revision in a question.
 *
 * Functions that take a mig_query return MIG_OK; MIG_EREVISION with query->error filled; or
 * MIG_ENOMEM. After a failure the query may only be released. None of them blocks.
 *
 * Ownership: the caller owns the struct; all that a question makes lives in its arena until
 * mig_query_release, and answers borrow from there or from the graph. One thread at a time; other
 * questions to the same graph may run at the same time. Layer: above graph.h.
 */
#ifndef MIG_CORE_GRAPH_QUERY_H
#define MIG_CORE_GRAPH_QUERY_H

#include "core/graph.h"

typedef struct mig_query {
    const mig_graph *graph;
    mig_arena arena;
    mig_graph_error *error; /* the caller's, initialised */
    uint64_t work;          /* nodes and edges looked at so far: what tests bound */
} mig_query;

/* Begin a question. `graph` and `error` must outlive it; `error` may be NULL for a query that
 * cannot fail with MIG_EREVISION, or is set later. */
void mig_query_init(mig_query *query, const mig_graph *graph, mig_graph_error *error);

/* Free what the question made. The query can be used again. */
void mig_query_release(mig_query *query);

/* Fail with MIG_GRAPH_ASSERTION and `text`: what Alembic asserts does not hold. */
mig_status mig_query_assert(mig_query *query, const char *text);

/* What stands for revisions in a question: Python's None, one string, or a sequence of those. */
typedef struct mig_ids {
    const mig_text *items; /* None is a name without text */
    size_t count;
    bool is_sequence;
} mig_ids;

/* A list in a query's arena, which grows by doubling. All zero: empty. */
typedef struct mig_nodes {
    uint32_t *items;
    uint32_t count;
    uint32_t capacity;
} mig_nodes;

static inline mig_span mig_nodes_span(const mig_nodes *nodes)
{
    return (mig_span){nodes->items, nodes->count};
}

/* Append `node`. MIG_OK, or MIG_ENOMEM: the list is as before. */
mig_status mig_nodes_push(mig_query *query, mig_nodes *nodes, uint32_t node);

/* *ids = the ids of `nodes`, none of which may be MIG_NODE_NONE or _BASE, as a sequence. */
mig_status mig_query_names(mig_query *query, mig_span nodes, mig_ids *ids);

/* A set of nodes, empty: a bit for each. NULL when out of memory. */
uint64_t *mig_query_marks(mig_query *query);

/* How many words a set of nodes has. */
static inline size_t mig_mark_words(const mig_graph *graph)
{
    return ((size_t)graph->count + 63) / 64;
}

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

#endif
