/*
 * RevisionMap._topological_sort of alembic/script/revision.py, in linear time.
 *
 * Alembic keeps a list of current heads and looks at one of them, the candidate, at a time. If the
 * candidate is an ancestor of another current head, it turns to the first such head in the list;
 * if not, it emits the candidate and puts its down revisions in its place. For that question it
 * keeps the set of ancestors of each head, made anew at each merge, which is quadratic.
 *
 * Here a head is a *slot*. The list only deletes and appends, so slots keep their order, and their
 * numbers are in it. For each node, `reach` is the smallest number of a slot from which it can be
 * reached, itself included; over its children alone, that is the answer to the question above.
 * `reach` never falls while the sort goes on, so it is kept up to date by passing on each rise, and
 * a node's children stand in a heap whose keys may be too small but never too large.
 *
 * Cost: O(E log E), times the number of different slots that are first for a node in its time.
 */
#include "core/graph.h"

#include <string.h>

#define NOWHERE UINT32_MAX

typedef struct slot {
    uint32_t node;
    uint32_t previous, next;
} slot;

typedef struct sorter {
    mig_query *query;
    const mig_graph *graph;
    uint64_t *todo;    /* not emitted yet */
    uint64_t *region;  /* all that the heads reach */
    uint32_t *reach;   /* node -> slot */
    uint32_t *own;     /* node -> its slot */
    uint32_t *heap;    /* children, in the ranges of graph->steps_up */
    uint32_t *keys;    /* of heap */
    uint32_t *size;    /* node -> length of its heap */
    mig_nodes risen;   /* nodes whose reach rose and whose parents were not told */
    slot *slots;
    uint32_t slot_count, first, last;
} sorter;

static void sift_down(sorter *s, uint32_t node, uint32_t at)
{
    uint32_t *heap = s->heap + s->graph->steps_up.start[node];
    uint32_t *keys = s->keys + s->graph->steps_up.start[node];
    uint32_t size = s->size[node], child = heap[at], key = keys[at];
    for (uint32_t below; (below = 2 * at + 1) < size; at = below) {
        if (below + 1 < size && keys[below + 1] < keys[below])
            below++;
        if (keys[below] >= key)
            break;
        heap[at] = heap[below];
        keys[at] = keys[below];
    }
    heap[at] = child;
    keys[at] = key;
}

/* The smallest reach of the children of `node`. */
static uint32_t reach_of_children(sorter *s, uint32_t node)
{
    uint32_t *heap = s->heap + s->graph->steps_up.start[node];
    uint32_t *keys = s->keys + s->graph->steps_up.start[node];
    while (s->size[node] > 0 && keys[0] != s->reach[heap[0]]) {
        keys[0] = s->reach[heap[0]];
        if (keys[0] == NOWHERE) {
            uint32_t last = --s->size[node];
            heap[0] = heap[last];
            keys[0] = keys[last];
        }
        if (s->size[node] > 0)
            sift_down(s, node, 0);
    }
    return s->size[node] > 0 ? keys[0] : NOWHERE;
}

static mig_status update(sorter *s, uint32_t node)
{
    uint32_t reach = reach_of_children(s, node);
    if (s->own[node] < reach)
        reach = s->own[node];
    if (reach == s->reach[node])
        return MIG_OK;
    s->reach[node] = reach;
    return mig_nodes_push(s->query, &s->risen, node);
}

static mig_status pass_on(sorter *s)
{
    while (s->risen.count > 0) {
        mig_span down =
            mig_edges_of(&s->graph->steps_down, s->risen.items[--s->risen.count]);
        for (uint32_t i = 0; i < down.count; i++) {
            mig_status status = update(s, down.items[i]);
            if (status != MIG_OK)
                return status;
        }
    }
    return MIG_OK;
}

static void append_slot(sorter *s, uint32_t node)
{
    uint32_t number = s->slot_count++;
    s->slots[number] = (slot){node, s->last, NOWHERE};
    if (s->last != NOWHERE)
        s->slots[s->last].next = number;
    else
        s->first = number;
    s->last = number;
    s->own[node] = number;
}

/* Take a slot out of the list; the one to look at next. */
static uint32_t delete_slot(sorter *s, uint32_t number)
{
    slot *gone = &s->slots[number];
    if (gone->previous != NOWHERE)
        s->slots[gone->previous].next = gone->next;
    else
        s->first = gone->next;
    if (gone->next != NOWHERE)
        s->slots[gone->next].previous = gone->previous;
    else
        s->last = gone->previous;
    return gone->previous != NOWHERE ? gone->previous : s->first;
}

/* The first reach of every node, parents after their children, and the heaps. */
static mig_status reach_all(sorter *s, uint32_t *waiting, mig_span heads)
{
    const mig_graph *graph = s->graph;
    mig_nodes ready = {NULL, 0, 0};
    mig_status status = MIG_OK;
    for (uint32_t i = 0; i < graph->count; i++) {
        if (!mig_marked(s->region, i))
            continue;
        mig_span up = mig_edges_of(&graph->steps_up, i);
        uint32_t *heap = s->heap + graph->steps_up.start[i];
        for (uint32_t j = 0; j < up.count; j++) {
            if (mig_marked(s->region, up.items[j]))
                heap[s->size[i]++] = up.items[j];
        }
        waiting[i] = s->size[i];
    }
    for (uint32_t i = 0; i < heads.count && status == MIG_OK; i++) {
        if (waiting[heads.items[i]] == 0)
            status = mig_nodes_push(s->query, &ready, heads.items[i]);
    }
    while (ready.count > 0 && status == MIG_OK) {
        uint32_t node = ready.items[--ready.count];
        uint32_t start = graph->steps_up.start[node];
        for (uint32_t j = 0; j < s->size[node]; j++)
            s->keys[start + j] = s->reach[s->heap[start + j]];
        for (uint32_t j = s->size[node] / 2; j > 0; j--)
            sift_down(s, node, j - 1);
        uint32_t reach = reach_of_children(s, node);
        s->reach[node] = s->own[node] < reach ? s->own[node] : reach;
        mig_span down = mig_edges_of(&graph->steps_down, node);
        for (uint32_t j = 0; j < down.count && status == MIG_OK; j++) {
            if (--waiting[down.items[j]] == 0)
                status = mig_nodes_push(s->query, &ready, down.items[j]);
        }
    }
    return status;
}

/* Emit the node of slot `number`; the slot to look at next. */
static mig_status emit(sorter *s, uint32_t *number, mig_nodes *found)
{
    uint32_t node = s->slots[*number].node;
    mig_status status = mig_nodes_push(s->query, found, node);
    mig_unmark(s->todo, node);
    mig_span down = mig_edges_of(&s->graph->steps_down, node);
    bool replaced = false;
    for (uint32_t i = 0; i < down.count; i++) {
        uint32_t below = down.items[i];
        if (!mig_marked(s->todo, below) || s->own[below] != NOWHERE)
            continue;
        if (!replaced) {
            s->slots[*number].node = below;
            s->own[below] = *number;
        } else {
            append_slot(s, below);
        }
        replaced = true;
    }
    if (!replaced)
        *number = delete_slot(s, *number);
    s->own[node] = NOWHERE;
    if (status == MIG_OK)
        status = update(s, node);
    if (status == MIG_OK)
        status = pass_on(s);
    return status;
}

static uint32_t *filled(mig_query *query, size_t count, uint32_t value)
{
    uint32_t *items = mig_arena_get_array(&query->arena, count, sizeof *items);
    for (size_t i = 0; items != NULL && i < count; i++)
        items[i] = value;
    return items;
}

mig_status mig_topological_sort(mig_query *query, const uint64_t *todo, mig_span heads,
                                mig_nodes *found)
{
    const mig_graph *graph = query->graph;
    size_t words = ((size_t)graph->count + 63) / 64;
    bool any = false;
    for (size_t i = 0; i < words; i++)
        any = any || todo[i] != 0;
    if (!any)
        return MIG_OK;
    uint32_t edges = graph->steps_up.start[graph->count];
    sorter s = {.query = query, .graph = graph, .first = NOWHERE, .last = NOWHERE};
    mig_nodes current = {NULL, 0, 0};
    s.todo = mig_query_marks(query);
    s.region = mig_query_marks(query);
    uint64_t *is_head = mig_query_marks(query);
    s.reach = filled(query, graph->count, NOWHERE);
    s.own = filled(query, graph->count, NOWHERE);
    s.size = filled(query, graph->count, 0);
    uint32_t *waiting = filled(query, graph->count, 0);
    s.heap = mig_arena_get_array(&query->arena, edges, sizeof *s.heap);
    s.keys = mig_arena_get_array(&query->arena, edges, sizeof *s.keys);
    /* a slot for each head at the start, and for each edge at the most */
    s.slots = mig_arena_get_array(&query->arena, (size_t)graph->count + edges, sizeof *s.slots);
    if (s.todo == NULL || s.region == NULL || is_head == NULL || s.reach == NULL ||
        s.own == NULL || s.size == NULL || waiting == NULL || s.heap == NULL || s.keys == NULL ||
        s.slots == NULL)
        return MIG_ENOMEM;
    memcpy(s.todo, todo, words * sizeof *todo);
    for (uint32_t i = 0; i < heads.count; i++) {
        if (heads.items[i] < graph->count && mig_marked(todo, heads.items[i]))
            mig_mark(is_head, heads.items[i]);
    }
    mig_status status = MIG_OK;
    for (uint32_t i = 0; i < graph->count && status == MIG_OK; i++) {
        if (mig_marked(is_head, i)) {
            append_slot(&s, i);
            status = mig_nodes_push(query, &current, i);
        }
    }
    mig_span starts = {current.items, current.count};
    if (status == MIG_OK)
        status = mig_walk(query, &graph->steps_down, starts, false, s.region, NULL);
    if (status == MIG_OK)
        status = reach_all(&s, waiting, starts);
    for (uint32_t at = s.first; at != NOWHERE && status == MIG_OK;) {
        uint32_t other = reach_of_children(&s, s.slots[at].node);
        if (other != NOWHERE)
            at = other;
        else
            status = emit(&s, &at, found);
    }
    for (size_t i = 0; i < words && status == MIG_OK; i++) {
        if (s.todo[i] != 0)
            status = MIG_GRAPH_FAIL(query->error, MIG_GRAPH_ASSERTION,
                                    MIG_NAME("revisions are left that no head leads to"));
    }
    return status;
}
