/* Walks along the edges of a graph, and the lists and marks of a question. */
#include "core/graph.h"

#include <string.h>

void mig_query_init(mig_query *query, const mig_graph *graph, mig_graph_error *error)
{
    query->graph = graph;
    query->error = error;
    mig_arena_init(&query->arena, graph->alloc);
}

void mig_query_release(mig_query *query)
{
    mig_arena_release(&query->arena);
}

mig_status mig_nodes_push(mig_query *query, mig_nodes *nodes, uint32_t node)
{
    if (nodes->count == nodes->capacity) {
        uint32_t capacity = nodes->capacity < 16 ? 16 : nodes->capacity * 2;
        uint32_t *items = mig_arena_get_array(&query->arena, capacity, sizeof *items);
        if (items == NULL || capacity > UINT32_MAX / 2)
            return MIG_ENOMEM;
        if (nodes->count > 0)
            memcpy(items, nodes->items, nodes->count * sizeof *items);
        nodes->items = items;
        nodes->capacity = capacity;
    }
    nodes->items[nodes->count++] = node;
    return MIG_OK;
}

uint64_t *mig_query_marks(mig_query *query)
{
    size_t words = ((size_t)query->graph->count + 63) / 64;
    uint64_t *marks = mig_arena_get_array(&query->arena, words, sizeof *marks);
    if (marks != NULL)
        memset(marks, 0, words * sizeof *marks);
    return marks;
}

/* The targets that the walk from `target` touched. */
static mig_status check_overlap(mig_query *query, mig_span targets, uint32_t target,
                                const uint64_t *touched)
{
    const mig_graph *graph = query->graph;
    uint32_t overlaps = 0;
    for (uint32_t i = 0; i < targets.count; i++)
        overlaps += targets.items[i] != target && mig_marked(touched, targets.items[i]);
    if (overlaps == 0)
        return MIG_OK;
    size_t count = 3, most = 4 + 2 * (size_t)targets.count;
    mig_name *pieces = mig_arena_get_array(&query->arena, most, sizeof *pieces);
    uint64_t *listed = mig_query_marks(query);
    if (pieces == NULL || listed == NULL)
        return MIG_ENOMEM;
    pieces[0] = MIG_NAME("Requested revision ");
    pieces[1] = graph->names[target];
    pieces[2] = MIG_NAME(" overlaps with other requested revisions ");
    for (uint32_t i = 0; i < targets.count; i++) {
        uint32_t node = targets.items[i];
        if (node == target || !mig_marked(touched, node) || mig_marked(listed, node))
            continue;
        mig_mark(listed, node);
        if (count > 3)
            pieces[count++] = MIG_NAME(", ");
        pieces[count++] = graph->names[node];
    }
    return mig_graph_fail_pieces(query->error, MIG_GRAPH_REVISION, pieces, count);
}

mig_status mig_walk(mig_query *query, const mig_edges *edges, mig_span targets, bool check,
                    uint64_t *marks, mig_nodes *found)
{
    mig_nodes stack = {NULL, 0, 0};
    uint64_t *touched = NULL, *is_target = NULL;
    if (check && targets.count > 1) {
        touched = mig_query_marks(query);
        is_target = mig_query_marks(query);
        if (touched == NULL || is_target == NULL)
            return MIG_ENOMEM;
        for (uint32_t i = 0; i < targets.count; i++)
            mig_mark(is_target, targets.items[i]);
    }
    for (uint32_t t = 0; t < targets.count; t++) {
        mig_status status = mig_nodes_push(query, &stack, targets.items[t]);
        while (stack.count > 0 && status == MIG_OK) {
            uint32_t node = stack.items[--stack.count];
            if (touched != NULL && mig_marked(is_target, node))
                mig_mark(touched, node);
            if (mig_marked(marks, node))
                continue;
            mig_mark(marks, node);
            mig_span next = mig_edges_of(edges, node);
            for (uint32_t i = 0; i < next.count && status == MIG_OK; i++) {
                /* a node that is seen does nothing more, unless a check looks for it */
                if (touched != NULL || !mig_marked(marks, next.items[i]))
                    status = mig_nodes_push(query, &stack, next.items[i]);
            }
            if (found != NULL && status == MIG_OK)
                status = mig_nodes_push(query, found, node);
        }
        if (status == MIG_OK && touched != NULL) {
            status = check_overlap(query, targets, targets.items[t], touched);
            for (uint32_t i = 0; i < targets.count; i++)
                touched[targets.items[i] / 64] &= ~((uint64_t)1 << (targets.items[i] % 64));
        }
        if (status != MIG_OK)
            return status;
    }
    return MIG_OK;
}
