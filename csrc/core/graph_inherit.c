/*
 * What a revision inherits: dependencies that an ancestor already has, and the labels of its
 * branch. RevisionMap._normalize_depends_on and _add_branches of alembic/script/revision.py.
 */
#include "core/graph_inherit.h"

#include <string.h>

#include "core/graph_walk.h"

/* Dependencies ------------------------------------------------------------------------------- */

/*
 * A dependency is left out where an ancestor by down_revision has it too. The forest of first down
 * revisions answers that for ancestors within it. For ancestors that only a merge leads to,
 * dependencies are carried up from the lowest revision that has one to the highest, 64 at a time.
 */
typedef struct shared {
    mig_query *query;
    const mig_graph *graph;
    uint32_t *rank, *order, *place; /* place: node -> where it is in `order` */
    uint32_t *begin, *end;          /* node -> range in the forest */
    uint32_t *merge;                /* node -> rank of the highest merge on its way down */
    uint32_t *owner;                /* edge of `resolved` -> the node that depends */
    uint32_t *lowest, *highest; /* dependency -> first and last place of the nodes that have it */
    uint8_t *drop;              /* edge: to be left out */
    uint8_t *is_open;           /* edge: not decided */
    mig_nodes dependencies;     /* with such an edge; the one with the lowest user first */
} shared;

static mig_status begin_shared(shared *s)
{
    const mig_graph *graph = s->graph;
    mig_arena *arena = &s->query->arena;
    uint32_t edges = graph->resolved.start[graph->count];
    MIG_TRY(mig_graph_rank(s->query, &graph->next, &s->rank, &s->order));
    s->place = mig_arena_filled(arena, graph->count, 0);
    s->begin = mig_arena_filled(arena, graph->count, 0);
    s->end = mig_arena_filled(arena, graph->count, 1);
    s->merge = mig_arena_filled(arena, graph->count, 0);
    s->owner = mig_arena_filled(arena, edges, 0);
    s->lowest = mig_arena_filled(arena, graph->count, MIG_NODE_NONE);
    s->highest = mig_arena_filled(arena, graph->count, 0);
    s->drop = mig_arena_get(arena, edges);
    s->is_open = mig_arena_get(arena, edges);
    if (s->place == NULL || s->begin == NULL || s->end == NULL || s->merge == NULL ||
        s->owner == NULL || s->lowest == NULL || s->highest == NULL || s->drop == NULL ||
        s->is_open == NULL)
        return MIG_ENOMEM;
    memset(s->drop, 0, edges);
    memset(s->is_open, 0, edges);
    for (uint32_t i = 0; i < graph->count; i++) {
        uint32_t node = s->order[i];
        mig_span down = mig_edges_of(&graph->down, node);
        s->place[node] = i;
        s->merge[node] = down.count > 1   ? s->rank[node]
                         : down.count > 0 ? s->merge[down.items[0]]
                                          : 0;
        for (uint32_t e = graph->resolved.start[node]; e < graph->resolved.start[node + 1]; e++)
            s->owner[e] = node;
    }
    return mig_graph_forest(s->query, &graph->down, s->order, s->begin, s->end);
}

/* Decide what the forest alone can decide: each edge is dropped, kept, or left open. In preorder.
 */
static mig_status decide_in_forest(shared *s)
{
    const mig_edges *resolved = &s->graph->resolved;
    uint32_t count = s->graph->count, edges = resolved->start[count];
    uint32_t *preorder = mig_arena_filled(&s->query->arena, count, 0);
    /* The edges to a dependency whose ranges hold the current node: the last one, and before it. */
    uint32_t *last = mig_arena_filled(&s->query->arena, count, MIG_NODE_NONE);
    uint32_t *before = mig_arena_filled(&s->query->arena, edges, MIG_NODE_NONE);
    if (preorder == NULL || last == NULL || before == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        preorder[s->begin[i]] = i;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t node = preorder[i];
        for (uint32_t e = resolved->start[node]; e < resolved->start[node + 1]; e++) {
            uint32_t d = resolved->to[e];
            while (last[d] != MIG_NODE_NONE && s->end[s->owner[last[d]]] <= i)
                last[d] = before[last[d]];
            s->query->work++;
            if (last[d] != MIG_NODE_NONE && s->owner[last[d]] == node)
                continue; /* there twice */
            s->drop[e] = last[d] != MIG_NODE_NONE;
            s->is_open[e] = !s->drop[e] && s->merge[node] > s->rank[s->order[s->lowest[d]]];
            if (s->is_open[e] && s->place[node] > s->highest[d])
                s->highest[d] = s->place[node];
            before[e] = last[d];
            last[d] = e;
        }
    }
    return MIG_OK;
}

/* Up to 64 of the dependencies that have open edges. */
static void carry_up(shared *s, mig_span batch, uint64_t *at, uint32_t *bit)
{
    const mig_graph *graph = s->graph;
    uint32_t first = MIG_NODE_NONE, last = 0;
    for (uint32_t i = 0; i < batch.count; i++) {
        uint32_t d = batch.items[i];
        bit[d] = i;
        first = s->lowest[d] < first ? s->lowest[d] : first;
        last = s->highest[d] > last ? s->highest[d] : last;
    }
    for (uint32_t i = first; i <= last; i++) {
        uint32_t node = s->order[i];
        mig_span down = mig_edges_of(&graph->down, node);
        at[node] = 0;
        for (uint32_t j = 0; j < down.count; j++) {
            if (s->place[down.items[j]] >= first)
                at[node] |= at[down.items[j]];
        }
        uint64_t below = at[node];
        for (uint32_t e = graph->resolved.start[node]; e < graph->resolved.start[node + 1]; e++) {
            uint32_t number = bit[graph->resolved.to[e]];
            if (number == MIG_NODE_NONE)
                continue;
            at[node] |= (uint64_t)1 << number;
            if (s->is_open[e])
                s->drop[e] = (below >> number) & 1u;
        }
        s->query->work += 1 + down.count;
    }
    for (uint32_t i = 0; i < batch.count; i++)
        bit[batch.items[i]] = MIG_NODE_NONE;
}

static mig_status decide_across_merges(shared *s)
{
    const mig_edges *resolved = &s->graph->resolved;
    uint32_t count = s->graph->count;
    uint64_t *at = mig_arena_get_array(&s->query->arena, count, sizeof *at);
    uint64_t *is_open = mig_query_marks(s->query);
    uint32_t *bit = mig_arena_filled(&s->query->arena, count, MIG_NODE_NONE);
    mig_nodes list = {NULL, 0, 0};
    if (at == NULL || bit == NULL || is_open == NULL)
        return MIG_ENOMEM;
    for (uint32_t e = 0; e < resolved->start[count]; e++) {
        if (s->is_open[e])
            mig_mark(is_open, resolved->to[e]);
    }
    for (uint32_t i = 0; i < s->dependencies.count; i++) {
        if (mig_marked(is_open, s->dependencies.items[i]))
            MIG_TRY(mig_nodes_push(s->query, &list, s->dependencies.items[i]));
    }
    for (uint32_t i = 0; i < list.count; i += 64) {
        uint32_t some = list.count - i < 64 ? list.count - i : 64;
        carry_up(s, (mig_span){list.items + i, some}, at, bit);
    }
    return MIG_OK;
}

mig_status mig_graph_normalize(mig_graph *graph, mig_query *query)
{
    const mig_edges *resolved = &graph->resolved;
    shared s = {.query = query, .graph = graph};
    uint32_t *listed_by = mig_arena_filled(&query->arena, graph->count, 0);
    if (listed_by == NULL)
        return MIG_ENOMEM;
    MIG_TRY(begin_shared(&s));
    for (uint32_t i = 0; i < graph->count; i++) {
        uint32_t node = s.order[i];
        for (uint32_t e = resolved->start[node]; e < resolved->start[node + 1]; e++) {
            uint32_t d = resolved->to[e];
            if (s.lowest[d] != MIG_NODE_NONE)
                continue;
            s.lowest[d] = i;
            MIG_TRY(mig_nodes_push(query, &s.dependencies, d));
        }
    }
    MIG_TRY(decide_in_forest(&s));
    MIG_TRY(decide_across_merges(&s));
    uint32_t at = 0;
    for (uint32_t i = 0; i < graph->count; i++) {
        for (uint32_t e = resolved->start[i]; e < resolved->start[i + 1]; e++) {
            uint32_t to = resolved->to[e];
            if (!s.drop[e] && listed_by[to] != i + 1)
                graph->normalized.to[at++] = to;
            listed_by[to] = i + 1;
        }
        graph->normalized.start[i + 1] = at;
    }
    return MIG_OK;
}

/* Labels ------------------------------------------------------------------------------------- */

/*
 * A label goes to all descendants, and from the last of these in Alembic's walk down to the next
 * branch point, merge point or base. That second way leads below the labelled revision only where
 * nothing branches or merges from it to the end of its branch: so a label is carried by all above,
 * and within such an end of a branch by all of it. A revision of it has the labels of its last one.
 */
static bool is_simple(const mig_graph *graph, uint32_t node)
{
    return mig_edges_of(&graph->all_next, node).count < 2 &&
           mig_edges_of(&graph->down, node).count < 2;
}

static mig_status find_tips(mig_graph *graph, const uint32_t *order)
{
    graph->tip = mig_arena_filled(&graph->arena, graph->count, MIG_NODE_NONE);
    if (graph->tip == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = graph->count; i-- > 0;) {
        uint32_t node = order[i];
        mig_span next = mig_edges_of(&graph->next, node);
        graph->tip[node] = node;
        if (is_simple(graph, node) && next.count == 1 && is_simple(graph, next.items[0])) {
            uint32_t tip = graph->tip[next.items[0]];
            if (is_simple(graph, tip) && mig_edges_of(&graph->next, tip).count == 0)
                graph->tip[node] = tip;
        }
    }
    return MIG_OK;
}

/* A bound on the search for sets that another one contains, for each set. */
enum { MOST_PARTS = 8 };

/*
 * The sets that the set of `node` is made of, each once, without those that another one contains,
 * as far as a bounded search finds them. listed, part_of: set -> the last node, counted from 1, for
 * which it was listed or found to be contained.
 */
static void add_parts(mig_graph *graph, uint32_t node, uint32_t *listed, uint32_t *part_of,
                      uint32_t *at)
{
    mig_edges *parts = &graph->label_parts;
    mig_span down = mig_edges_of(&graph->down, node);
    uint32_t begin = *at, end = begin;
    for (uint32_t i = 0; i < down.count; i++) {
        uint32_t set = graph->label_set[down.items[i]];
        if (set == MIG_NODE_NONE || listed[set] == node + 1)
            continue;
        listed[set] = node + 1;
        parts->to[end++] = set;
        mig_span inner = mig_edges_of(parts, set);
        for (uint32_t j = 0; j < inner.count && j < MOST_PARTS; j++)
            part_of[inner.items[j]] = node + 1;
    }
    for (uint32_t i = begin; i < end; i++) {
        if (part_of[parts->to[i]] != node + 1)
            parts->to[(*at)++] = parts->to[i];
    }
}

/*
 * The labels of each revision, as a set: those of a few other sets and of one revision's own. Sets
 * are shared: there is a new one only where a revision has labels, or where two different meet.
 */
mig_status mig_graph_inherit_labels(mig_graph *graph, mig_query *query)
{
    uint32_t *rank, *order, *own, *listed, *part_of, at = 0, sets = 0;
    size_t most = graph->down.start[graph->count];
    MIG_TRY(mig_graph_rank(query, &graph->next, &rank, &order));
    MIG_TRY(find_tips(graph, order));
    own = mig_arena_filled(&query->arena, graph->count, MIG_NODE_NONE); /* the first key */
    listed = mig_arena_filled(&query->arena, graph->count, 0);
    part_of = mig_arena_filled(&query->arena, graph->count, 0);
    graph->label_set = mig_arena_filled(&graph->arena, graph->count, MIG_NODE_NONE);
    graph->label_own = mig_arena_filled(&graph->arena, graph->count, MIG_NODE_NONE);
    graph->label_parts.start = mig_arena_filled(&graph->arena, (size_t)graph->count + 1, 0);
    graph->label_parts.to = mig_arena_filled(&graph->arena, most, 0);
    if (own == NULL || listed == NULL || part_of == NULL || graph->label_set == NULL ||
        graph->label_own == NULL || graph->label_parts.start == NULL ||
        graph->label_parts.to == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = graph->key_count; i-- > graph->count;)
        own[graph->key_node[i]] = i;
    for (uint32_t i = 0; i < graph->count; i++) {
        uint32_t node = order[i], begin = at;
        add_parts(graph, node, listed, part_of, &at);
        query->work += 1 + mig_edges_of(&graph->down, node).count;
        if (own[node] == MIG_NODE_NONE && at - begin < 2) {
            if (at > begin)
                graph->label_set[node] = graph->label_parts.to[--at];
            continue;
        }
        graph->label_set[node] = sets;
        graph->label_own[sets++] = own[node];
        graph->label_parts.start[sets] = at;
    }
    graph->label_set_count = sets;
    /* from the lowest up: the nodes above still have their own sets */
    for (uint32_t i = 0; i < graph->count; i++)
        graph->label_set[order[i]] = graph->label_set[graph->tip[order[i]]];
    return MIG_OK;
}

mig_status mig_graph_labels(mig_query *query, uint32_t set, mig_nodes *labels)
{
    const mig_graph *graph = query->graph;
    mig_nodes stack = {NULL, 0, 0};
    size_t words = ((size_t)graph->label_count + 63) / 64;
    uint64_t *seen = mig_query_marks(query); /* there are no more sets than revisions */
    uint64_t *has = mig_arena_get_array(&query->arena, words, sizeof *has);
    if (seen == NULL || has == NULL)
        return MIG_ENOMEM;
    memset(has, 0, words * sizeof *has);
    MIG_TRY(mig_nodes_push(query, &stack, set));
    while (stack.count > 0) {
        set = stack.items[--stack.count];
        if (mig_marked(seen, set))
            continue;
        mig_mark(seen, set);
        uint32_t key = graph->label_own[set];
        for (uint32_t i = key; i < graph->key_count && graph->key_node[i] == graph->key_node[key];
             i++)
            mig_mark(has, i - graph->count);
        mig_span parts = mig_edges_of(&graph->label_parts, set);
        for (uint32_t i = 0; i < parts.count; i++)
            MIG_TRY(mig_nodes_push(query, &stack, parts.items[i]));
    }
    for (uint32_t i = 0; i < graph->label_count; i++) {
        if (mig_marked(has, i))
            MIG_TRY(mig_nodes_push(query, labels, i));
    }
    return MIG_OK;
}

mig_status mig_graph_with_label(mig_query *query, uint32_t label, uint64_t **marks)
{
    const mig_graph *graph = query->graph;
    uint32_t node = graph->key_node[graph->count + label];
    *marks = mig_query_marks(query);
    if (*marks == NULL)
        return MIG_ENOMEM;
    for (mig_span down = mig_edges_of(&graph->down, node);
         down.count == 1 && graph->tip[down.items[0]] == graph->tip[node];
         down = mig_edges_of(&graph->down, node))
        node = down.items[0];
    return mig_graph_walk(query, &graph->next, (mig_span){&node, 1}, false, *marks, NULL);
}
