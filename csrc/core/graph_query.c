#include "core/graph_query.h"

#include <string.h>

void mig_query_init(mig_query *query, const mig_graph *graph, mig_graph_error *error)
{
    query->graph = graph;
    query->error = error;
    query->work = 0;
    mig_arena_init(&query->arena, graph->alloc);
}

void mig_query_release(mig_query *query)
{
    mig_arena_release(&query->arena);
}

mig_status mig_query_assert(mig_query *query, const char *text)
{
    mig_text message = {text, strlen(text)};
    return mig_graph_fail_pieces(query->error, MIG_GRAPH_ASSERTION, &message, 1);
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
    size_t words = mig_mark_words(query->graph);
    uint64_t *marks = mig_arena_get_array(&query->arena, words, sizeof *marks);
    if (marks != NULL)
        memset(marks, 0, words * sizeof *marks);
    return marks;
}

mig_status mig_query_names(mig_query *query, mig_span nodes, mig_ids *ids)
{
    mig_text *names = mig_arena_get_array(&query->arena, nodes.count, sizeof *names);
    if (names == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = 0; i < nodes.count; i++)
        names[i] = query->graph->names[nodes.items[i]];
    *ids = (mig_ids){names, nodes.count, true};
    return MIG_OK;
}
