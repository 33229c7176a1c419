/* Walks along the edges of a graph. */
#include "core/graph_walk.h"

#include <string.h>

mig_status mig_graph_rank(mig_query *query, const mig_edges *up, uint32_t **rank, uint32_t **order)
{
    uint32_t count = query->graph->count, length = 0;
    uint32_t *left = mig_arena_get_array(&query->arena, count, sizeof *left);
    uint32_t *queue = mig_arena_get_array(&query->arena, count, sizeof *queue);
    *order = queue;
    *rank = mig_arena_get_array(&query->arena, count, sizeof **rank);
    if (left == NULL || queue == NULL || *rank == NULL)
        return MIG_ENOMEM;
    memset(left, 0, count * sizeof *left);
    for (uint32_t i = 0; i < up->start[count]; i++)
        left[up->to[i]]++;
    for (uint32_t i = 0; i < count; i++) {
        (*rank)[i] = left[i] == 0 ? 0 : MIG_NODE_NONE;
        if (left[i] == 0)
            queue[length++] = i;
    }
    for (uint32_t i = 0; i < length; i++) {
        mig_span above = mig_edges_of(up, queue[i]);
        for (uint32_t j = 0; j < above.count; j++) {
            /* the last node below has the highest rank, because the queue is in order of rank */
            if (--left[above.items[j]] > 0)
                continue;
            (*rank)[above.items[j]] = (*rank)[queue[i]] + 1;
            queue[length++] = above.items[j];
        }
        query->work += 1 + above.count;
    }
    return MIG_OK;
}

mig_status mig_graph_forest(mig_query *query, const mig_edges *down, const uint32_t *order,
                            uint32_t *begin, uint32_t *end)
{
    uint32_t count = query->graph->count, total = 0;
    /* node -> where the range of its next child begins */
    uint32_t *fill = mig_arena_get_array(&query->arena, count, sizeof *fill);
    if (fill == NULL)
        return MIG_ENOMEM;
    if (count > 0)
        memcpy(fill, end, count * sizeof *fill);
    for (uint32_t i = count; i-- > 0;) {
        mig_span below = mig_edges_of(down, order[i]);
        if (below.count > 0)
            end[below.items[0]] += end[order[i]];
    }
    for (uint32_t i = 0; i < count; i++) {
        mig_span below = mig_edges_of(down, order[i]);
        uint32_t *place = below.count > 0 ? &fill[below.items[0]] : &total;
        begin[order[i]] = *place;
        *place += end[order[i]];
        end[order[i]] = *place;
        fill[order[i]] += begin[order[i]];
    }
    query->work += count;
    return MIG_OK;
}

mig_status mig_graph_ancestry(mig_query *query, mig_ancestry *ancestry)
{
    const mig_edges *down = &query->graph->steps_down;
    mig_arena *arena = &query->arena;
    uint32_t count = query->graph->count, edges = down->start[count];
    if ((size_t)count + edges > MIG_NODE_MAX)
        return MIG_ENOMEM;
    MIG_TRY(mig_graph_rank(query, &query->graph->steps_up, &ancestry->rank, &ancestry->order));
    uint32_t *fill = mig_arena_get_array(arena, count, sizeof *fill);
    ancestry->begin = mig_arena_get_array(arena, count, sizeof *ancestry->begin);
    ancestry->end = mig_arena_get_array(arena, count, sizeof *ancestry->end);
    ancestry->edge_leaf = mig_arena_get_array(arena, edges, sizeof *ancestry->edge_leaf);
    if (fill == NULL || ancestry->begin == NULL || ancestry->end == NULL ||
        ancestry->edge_leaf == NULL)
        return MIG_ENOMEM;
    ancestry->leaf_count = count;
    for (uint32_t i = 0; i < count; i++)
        ancestry->end[i] = 1;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t e = down->start[i] + 1; e < down->start[i + 1]; e++, ancestry->leaf_count++)
            ancestry->end[down->to[e]]++;
    }
    MIG_TRY(mig_graph_forest(query, down, ancestry->order, ancestry->begin, ancestry->end));
    ancestry->from = mig_arena_get_array(arena, ancestry->leaf_count, sizeof *ancestry->from);
    if (ancestry->from == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        fill[i] = ancestry->begin[i];
        ancestry->from[fill[i]++] = i;
    }
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t e = down->start[i]; e < down->start[i + 1]; e++) {
            uint32_t below = down->to[e], leaf = MIG_NODE_NONE;
            if (e > down->start[i]) {
                leaf = fill[below]++;
                ancestry->from[leaf] = i;
            }
            bool is_on_line = ancestry->begin[i] >= ancestry->begin[below] &&
                              ancestry->begin[i] < ancestry->end[below];
            ancestry->edge_leaf[e] = is_on_line ? MIG_NODE_NONE : leaf;
        }
    }
    query->work += (uint64_t)count + edges;
    return MIG_OK;
}

/* State of a walk that looks for overlapping targets. */
typedef struct overlap_check {
    uint64_t *is_target;
    uint64_t *is_met; /* by the walk from the current target */
    mig_nodes met;
} overlap_check;

static mig_status begin_check(mig_query *query, mig_span targets, overlap_check *check)
{
    check->is_target = mig_query_marks(query);
    check->is_met = mig_query_marks(query);
    if (check->is_target == NULL || check->is_met == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = 0; i < targets.count; i++) {
        if (targets.items[i] < query->graph->count)
            mig_mark(check->is_target, targets.items[i]);
    }
    return MIG_OK;
}

static mig_status meet(mig_query *query, overlap_check *check, uint32_t node)
{
    if (!mig_marked(check->is_target, node) || mig_marked(check->is_met, node))
        return MIG_OK;
    mig_mark(check->is_met, node);
    return mig_nodes_push(query, &check->met, node);
}

/* Fail if the walk from `target` met another target; else be ready for the next walk. */
static mig_status end_target(mig_query *query, overlap_check *check, mig_span targets,
                             uint32_t target)
{
    if (check->met.count == 1) {
        mig_unmark(check->is_met, target);
        check->met.count = 0;
        return MIG_OK;
    }
    const mig_graph *graph = query->graph;
    size_t count = 3, most = 3 + 2 * (size_t)check->met.count;
    mig_text *pieces = mig_arena_get_array(&query->arena, most, sizeof *pieces);
    if (pieces == NULL)
        return MIG_ENOMEM;
    pieces[0] = MIG_TEXT("Requested revision ");
    pieces[1] = graph->names[target];
    pieces[2] = MIG_TEXT(" overlaps with other requested revisions ");
    mig_unmark(check->is_met, target);
    for (uint32_t i = 0; i < targets.count; i++) {
        uint32_t node = targets.items[i];
        if (node >= graph->count || !mig_marked(check->is_met, node))
            continue;
        mig_unmark(check->is_met, node); /* a target that is given twice is reported once */
        if (count > 3)
            pieces[count++] = MIG_TEXT(", ");
        pieces[count++] = graph->names[node];
    }
    return mig_graph_fail_pieces(query->error, MIG_GRAPH_REVISION, pieces, count);
}

mig_status mig_graph_walk(mig_query *query, const mig_edges *edges, mig_span targets, bool check,
                          uint64_t *marks, mig_nodes *found)
{
    mig_nodes stack = {NULL, 0, 0};
    overlap_check overlaps = {0};
    check = check && targets.count > 1;
    if (check)
        MIG_TRY(begin_check(query, targets, &overlaps));
    for (uint32_t t = 0; t < targets.count; t++) {
        if (targets.items[t] >= query->graph->count)
            return MIG_GRAPH_FAIL(query->error, MIG_GRAPH_ASSERTION,
                                  MIG_TEXT("there is no such revision"));
        MIG_TRY(mig_nodes_push(query, &stack, targets.items[t]));
        while (stack.count > 0) {
            uint32_t node = stack.items[--stack.count];
            if (check)
                MIG_TRY(meet(query, &overlaps, node));
            if (mig_marked(marks, node))
                continue;
            mig_mark(marks, node);
            mig_span next = mig_edges_of(edges, node);
            query->work += 1 + next.count;
            for (uint32_t i = 0; i < next.count; i++) {
                /* a node that is seen does nothing more, unless a check looks for it */
                if (!mig_marked(marks, next.items[i]) ||
                    (check && mig_marked(overlaps.is_target, next.items[i])))
                    MIG_TRY(mig_nodes_push(query, &stack, next.items[i]));
            }
            if (found != NULL)
                MIG_TRY(mig_nodes_push(query, found, node));
        }
        if (check)
            MIG_TRY(end_target(query, &overlaps, targets, targets.items[t]));
    }
    return MIG_OK;
}
