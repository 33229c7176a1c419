/*
 * Building the graph. The order of checks is that of RevisionMap._revision_map and
 * Revision.__init__ in alembic/script/revision.py, because the first error is the one reported.
 */
#include "core/graph_build.h"

#include <string.h>

#include "core/graph_inherit.h"
#include "core/graph_walk.h"

/* Names -------------------------------------------------------------------------------------- */

static bool holds(const mig_text *names, size_t count, mig_text name)
{
    for (size_t i = 0; i < count; i++) {
        if (mig_text_equal(names[i], name))
            return true;
    }
    return false;
}

/* Revision.__init__ */
static mig_status check_record(const mig_record *record, mig_graph_error *error)
{
    if (holds(record->down, record->down_count, record->revision))
        return mig_graph_fail_names(error, MIG_GRAPH_LOOP, &record->revision, 1);
    if (holds(record->depends, record->depend_count, record->revision))
        return mig_graph_fail_names(error, MIG_GRAPH_DEPENDENCY_LOOP, &record->revision, 1);
    mig_text illegal = {"", 0};
    char list[16];
    for (const char *c = "+-:@"; *c != '\0'; c++) {
        if (!mig_text_has(record->revision, *c))
            continue;
        if (illegal.length > 0) {
            memcpy(list + illegal.length, ", ", 2);
            illegal.length += 2;
        }
        list[illegal.length++] = *c;
        illegal.text = list;
    }
    if (illegal.length > 0)
        return MIG_GRAPH_FAIL(error, MIG_GRAPH_REVISION, MIG_TEXT("Character(s) '"), illegal,
                              MIG_TEXT("' not allowed in revision identifier '"), record->revision,
                              MIG_TEXT("'"));
    return MIG_OK;
}

static mig_status add_names(mig_graph *graph, const mig_record *records, mig_graph_error *error)
{
    mig_arena *arena = &graph->arena;
    size_t keys = graph->count;
    for (uint32_t i = 0; i < graph->count; i++)
        keys += records[i].label_count;
    if (keys > MIG_NODE_MAX)
        return MIG_ENOMEM;
    size_t buckets = 8;
    while (buckets < keys * 2)
        buckets *= 2;
    graph->bucket_mask = (uint32_t)buckets - 1;
    graph->names = mig_arena_get_array(arena, graph->count, sizeof *graph->names);
    graph->keys = mig_arena_get_array(arena, keys, sizeof *graph->keys);
    graph->key_node = mig_arena_get_array(arena, keys, sizeof *graph->key_node);
    graph->buckets = mig_arena_get_array(arena, buckets, sizeof *graph->buckets);
    if (graph->names == NULL || graph->keys == NULL || graph->key_node == NULL ||
        graph->buckets == NULL)
        return MIG_ENOMEM;
    memset(graph->buckets, 0, buckets * sizeof *graph->buckets);
    for (uint32_t i = 0; i < graph->count; i++) {
        MIG_TRY(check_record(&records[i], error));
        mig_text name = records[i].revision;
        name.text = mig_arena_copy(arena, name.text, name.length);
        if (name.text == NULL)
            return MIG_ENOMEM;
        graph->names[i] = name;
        if (mig_graph_lookup(graph, name) != MIG_NODE_NONE)
            return MIG_GRAPH_FAIL(error, MIG_GRAPH_DECLINED, MIG_TEXT("Revision "), name,
                                  MIG_TEXT(" is present more than once"));
        if (mig_is_symbol(name))
            return MIG_GRAPH_FAIL(error, MIG_GRAPH_DECLINED, MIG_TEXT("Revision "), name,
                                  MIG_TEXT(" is named as a symbol"));
        mig_graph_add_key(graph, name, i);
    }
    for (uint32_t i = 0; i < graph->count; i++) {
        for (size_t j = 0; j < records[i].label_count; j++) {
            mig_text label = records[i].labels[j];
            uint32_t used = mig_graph_lookup(graph, label);
            if (used != MIG_NODE_NONE)
                return MIG_GRAPH_FAIL(error, MIG_GRAPH_REVISION, MIG_TEXT("Branch name '"), label,
                                      MIG_TEXT("' in revision "), graph->names[i],
                                      MIG_TEXT(" already used by revision "), graph->names[used]);
            label.text = mig_arena_copy(arena, label.text, label.length);
            if (label.text == NULL)
                return MIG_ENOMEM;
            mig_graph_add_key(graph, label, i);
        }
    }
    graph->label_count = graph->key_count - graph->count;
    return MIG_OK;
}

/* Edges -------------------------------------------------------------------------------------- */

static mig_status new_edges(mig_graph *graph, mig_edges *edges, size_t most)
{
    if (most > MIG_NODE_MAX)
        return MIG_ENOMEM;
    edges->start = mig_arena_get_array(&graph->arena, (size_t)graph->count + 1, sizeof(uint32_t));
    edges->to = mig_arena_get_array(&graph->arena, most, sizeof(uint32_t));
    if (edges->start == NULL || edges->to == NULL)
        return MIG_ENOMEM;
    memset(edges->start, 0, ((size_t)graph->count + 1) * sizeof(uint32_t));
    return MIG_OK;
}

static mig_status missing(mig_text name, uint32_t record, bool warns, mig_graph_error *error)
{
    mig_status status = mig_graph_fail_names(error, MIG_GRAPH_MISSING, &name, 1);
    error->record = record;
    error->warns = warns;
    return status;
}

/* depends_on and down_revision as nodes: Alembic resolves all dependencies before it looks down. */
static mig_status add_down_edges(mig_graph *graph, const mig_record *records,
                                 mig_graph_error *error)
{
    size_t downs = 0, depends = 0;
    for (uint32_t i = 0; i < graph->count; i++) {
        downs += records[i].down_count;
        depends += records[i].depend_count;
    }
    MIG_TRY(new_edges(graph, &graph->resolved, depends));
    MIG_TRY(new_edges(graph, &graph->down, downs));
    uint32_t at = 0;
    for (uint32_t i = 0; i < graph->count; i++) {
        for (size_t j = 0; j < records[i].depend_count; j++) {
            uint32_t node = mig_graph_lookup(graph, records[i].depends[j]);
            if (node == MIG_NODE_NONE)
                return missing(records[i].depends[j], i, false, error);
            graph->resolved.to[at++] = node;
        }
        graph->resolved.start[i + 1] = at;
    }
    at = 0;
    for (uint32_t i = 0; i < graph->count; i++) {
        for (size_t j = 0; j < records[i].down_count; j++) {
            uint32_t node = mig_graph_lookup(graph, records[i].down[j]);
            if (node == MIG_NODE_NONE)
                return missing(records[i].down[j], i, true, error);
            if (!mig_text_equal(graph->names[node], records[i].down[j]))
                return MIG_GRAPH_FAIL(error, MIG_GRAPH_DECLINED, graph->names[i],
                                      MIG_TEXT(" has a branch label as down_revision"));
            graph->down.to[at++] = node;
        }
        graph->down.start[i + 1] = at;
    }
    return MIG_OK;
}

/* Both lists of each node, each node once (util.dedupe_tuple). */
static mig_status join_edges(mig_graph *graph, mig_query *query, const mig_edges *first,
                             const mig_edges *second, mig_edges *joined)
{
    MIG_TRY(
        new_edges(graph, joined, (size_t)first->start[graph->count] + second->start[graph->count]));
    uint32_t *listed_by = mig_arena_filled(&query->arena, graph->count, 0);
    if (listed_by == NULL)
        return MIG_ENOMEM;
    uint32_t at = 0;
    for (uint32_t i = 0; i < graph->count; i++) {
        const mig_span spans[2] = {mig_edges_of(first, i), mig_edges_of(second, i)};
        for (int s = 0; s < 2; s++) {
            for (uint32_t j = 0; j < spans[s].count; j++) {
                uint32_t to = spans[s].items[j];
                if (listed_by[to] != i + 1)
                    joined->to[at++] = to;
                listed_by[to] = i + 1;
            }
        }
        joined->start[i + 1] = at;
    }
    return MIG_OK;
}

/* The same edges the other way, in the order of the nodes that they come from. */
static mig_status turn_edges(mig_graph *graph, const mig_edges *edges, mig_edges *turned)
{
    MIG_TRY(new_edges(graph, turned, edges->start[graph->count]));
    uint32_t *fill = mig_arena_get_array(&graph->arena, graph->count, sizeof *fill);
    if (fill == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = 0; i < edges->start[graph->count]; i++)
        turned->start[edges->to[i] + 1]++;
    for (uint32_t i = 0; i < graph->count; i++) {
        turned->start[i + 1] += turned->start[i];
        fill[i] = turned->start[i];
    }
    for (uint32_t i = 0; i < graph->count; i++) {
        mig_span span = mig_edges_of(edges, i);
        for (uint32_t j = 0; j < span.count; j++) {
            uint32_t to = span.items[j];
            /* a list that names one revision twice points once */
            if (fill[to] == turned->start[to] || turned->to[fill[to] - 1] != i)
                turned->to[fill[to]++] = i;
        }
    }
    /* close the gaps that duplicates left */
    uint32_t at = 0, start = 0;
    for (uint32_t i = 0; i < graph->count; i++) {
        uint32_t end = turned->start[i + 1];
        for (uint32_t j = start; j < fill[i]; j++)
            turned->to[at++] = turned->to[j];
        start = end;
        turned->start[i + 1] = at;
    }
    return MIG_OK;
}

/* Heads, bases, cycles ----------------------------------------------------------------------- */

/* The nodes without edges in `edges`, nor in `also` if given. */
static mig_status ends(mig_graph *graph, const mig_edges *edges, const mig_edges *also,
                       mig_span *found)
{
    uint32_t *items = mig_arena_get_array(&graph->arena, graph->count, sizeof *items);
    if (items == NULL)
        return MIG_ENOMEM;
    uint32_t count = 0;
    for (uint32_t i = 0; i < graph->count; i++) {
        if (mig_edges_of(edges, i).count == 0 && (also == NULL || mig_edges_of(also, i).count == 0))
            items[count++] = i;
    }
    *found = (mig_span){items, count};
    return MIG_OK;
}

static int compare_names(const void *a, const void *b)
{
    return mig_text_compare(*(const mig_text *)a, *(const mig_text *)b);
}

static void sort_names(mig_text *names, size_t count)
{
    /* heapsort: no recursion, no memory, the input may be hostile */
    for (size_t end = count, root = count / 2; end > 1;) {
        mig_text moved;
        if (root > 0) {
            moved = names[--root];
        } else {
            moved = names[--end];
            names[end] = names[0];
        }
        size_t hole = root;
        for (size_t child; (child = 2 * hole + 1) < end; hole = child) {
            if (child + 1 < end && compare_names(&names[child], &names[child + 1]) < 0)
                child++;
            if (compare_names(&moved, &names[child]) >= 0)
                break;
            names[hole] = names[child];
        }
        names[hole] = moved;
    }
}

/* Fail with the nodes that are not marked, by name. */
static mig_status cycle(mig_query *query, const uint64_t *marks, bool sorted,
                        mig_graph_error_kind kind)
{
    const mig_graph *graph = query->graph;
    mig_text *names = mig_arena_get_array(&query->arena, graph->count, sizeof *names);
    if (names == NULL)
        return MIG_ENOMEM;
    size_t count = 0;
    for (uint32_t i = 0; i < graph->count; i++) {
        if (marks == NULL || !mig_marked(marks, i))
            names[count++] = graph->names[i];
    }
    if (sorted)
        sort_names(names, count);
    return mig_graph_fail_names(query->error, kind, names, count);
}

/* RevisionMap._detect_cycles for one kind of edges: what is not between heads and bases. */
static mig_status detect_cycles(mig_query *query, const mig_edges *down, const mig_edges *up,
                                mig_span heads, mig_span bases, mig_graph_error_kind kind)
{
    const mig_graph *graph = query->graph;
    if (heads.count == 0 || bases.count == 0)
        return cycle(query, NULL, false, kind);
    uint64_t *below = mig_query_marks(query), *above = mig_query_marks(query);
    if (below == NULL || above == NULL)
        return MIG_ENOMEM;
    MIG_TRY(mig_graph_walk(query, down, heads, false, below, NULL));
    MIG_TRY(mig_graph_walk(query, up, bases, false, above, NULL));
    bool all = true;
    for (uint32_t i = 0; i < graph->count; i++)
        all = all && mig_marked(below, i) && mig_marked(above, i);
    if (all)
        return MIG_OK;
    for (size_t i = 0; i < mig_mark_words(graph); i++)
        below[i] &= above[i];
    return cycle(query, below, true, kind);
}

/*
 * Alembic overlooks a cycle that has both a way in and a way out. Some of those it walks, in its
 * own way, and loops forever on the rest: no cycle is for this graph.
 */
static mig_status decline_cycles(mig_query *query)
{
    const mig_graph *graph = query->graph;
    uint32_t *rank, *order;
    MIG_TRY(mig_graph_rank(query, &graph->all_next, &rank, &order));
    for (uint32_t i = 0; i < graph->count; i++) {
        if (rank[i] == MIG_NODE_NONE)
            return MIG_GRAPH_FAIL(query->error, MIG_GRAPH_DECLINED, graph->names[i],
                                  MIG_TEXT(" is on a cycle, or above one"));
    }
    return MIG_OK;
}

static mig_status detect_all_cycles(mig_graph *graph, mig_query *query)
{
    if (graph->count == 0)
        return MIG_OK;
    MIG_TRY(detect_cycles(query, &graph->down, &graph->next, graph->heads, graph->bases,
                          MIG_GRAPH_CYCLE));
    MIG_TRY(detect_cycles(query, &graph->all_down, &graph->all_next, graph->real_heads,
                          graph->real_bases, MIG_GRAPH_DEPENDENCY_CYCLE));
    return decline_cycles(query);
}

/* The whole ---------------------------------------------------------------------------------- */

static mig_status build(mig_graph *graph, mig_query *query, const mig_record *records,
                        mig_graph_error *error)
{
    MIG_TRY(add_names(graph, records, error));
    MIG_TRY(add_down_edges(graph, records, error));
    MIG_TRY(join_edges(graph, query, &graph->down, &graph->resolved, &graph->all_down));
    MIG_TRY(turn_edges(graph, &graph->down, &graph->next));
    MIG_TRY(turn_edges(graph, &graph->all_down, &graph->all_next));
    MIG_TRY(ends(graph, &graph->next, NULL, &graph->heads));
    MIG_TRY(ends(graph, &graph->all_next, NULL, &graph->real_heads));
    MIG_TRY(ends(graph, &graph->down, NULL, &graph->bases));
    MIG_TRY(ends(graph, &graph->down, &graph->resolved, &graph->real_bases));
    MIG_TRY(detect_all_cycles(graph, query));
    MIG_TRY(new_edges(graph, &graph->normalized, graph->resolved.start[graph->count]));
    MIG_TRY(mig_graph_normalize(graph, query));
    MIG_TRY(join_edges(graph, query, &graph->down, &graph->normalized, &graph->steps_down));
    MIG_TRY(turn_edges(graph, &graph->steps_down, &graph->steps_up));
    return mig_graph_inherit_labels(graph, query);
}

mig_status mig_graph_build(mig_graph *graph, const mig_record *records, size_t count,
                           mig_graph_error *error)
{
    if (count > MIG_NODE_MAX)
        return MIG_ENOMEM;
    graph->count = (uint32_t)count;
    mig_query query;
    mig_query_init(&query, graph, error);
    mig_status status = build(graph, &query, records, error);
    graph->work = query.work;
    mig_query_release(&query);
    return status;
}
