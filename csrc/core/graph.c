#include "core/graph.h"

mig_graph *mig_graph_new(const mig_alloc *alloc)
{
    mig_graph *graph = mig_alloc_array(alloc, 1, sizeof *graph);
    if (graph != NULL) {
        graph->alloc = alloc;
        mig_arena_init(&graph->arena, alloc);
    }
    return graph;
}

void mig_graph_free(mig_graph *graph)
{
    if (graph == NULL)
        return;
    const mig_alloc *alloc = graph->alloc;
    mig_arena_release(&graph->arena);
    alloc->release(alloc->ctx, graph);
}

static uint32_t hash_name(mig_text name)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < name.length; i++)
        hash = (hash ^ (unsigned char)name.text[i]) * 16777619u;
    return hash;
}

/* The bucket of `key`, or the empty one where it belongs. */
static uint32_t find_bucket(const mig_graph *graph, mig_text key)
{
    uint32_t bucket = hash_name(key) & graph->bucket_mask;
    while (graph->buckets[bucket] != 0 &&
           !mig_text_equal(graph->keys[graph->buckets[bucket] - 1], key))
        bucket = (bucket + 1) & graph->bucket_mask;
    return bucket;
}

/* The number of a key, or MIG_NODE_NONE. */
static uint32_t find_key(const mig_graph *graph, mig_text key)
{
    if (key.text == NULL || graph->key_count == 0)
        return MIG_NODE_NONE;
    uint32_t found = graph->buckets[find_bucket(graph, key)];
    return found == 0 ? MIG_NODE_NONE : found - 1;
}

uint32_t mig_graph_lookup(const mig_graph *graph, mig_text key)
{
    uint32_t found = find_key(graph, key);
    return found == MIG_NODE_NONE ? MIG_NODE_NONE : graph->key_node[found];
}

uint32_t mig_graph_label(const mig_graph *graph, mig_text key)
{
    uint32_t found = find_key(graph, key);
    return found == MIG_NODE_NONE || found < graph->count ? MIG_NODE_NONE : found - graph->count;
}

void mig_graph_add_key(mig_graph *graph, mig_text key, uint32_t node)
{
    graph->keys[graph->key_count] = key;
    graph->key_node[graph->key_count] = node;
    graph->buckets[find_bucket(graph, key)] = ++graph->key_count;
}
