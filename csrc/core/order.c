/*
 * RevisionMap._topological_sort of alembic/script/revision.py, in linear time.
 *
 * Alembic keeps a list of current heads and looks at one of them, the candidate, at a time. If the
 * candidate is an ancestor of another current head, it turns to the first such head in the list;
 * if not, it emits the candidate and puts its down revisions in its place. For that question it
 * keeps the set of ancestors of each head, made anew at each merge, which is quadratic.
 *
 * Here a head is a *slot*. The list only deletes and appends, so slots keep their order, and their
 * numbers are in it. `reach` of a node is the smallest number of a slot from which it can be
 * reached, itself included; over its children alone, that is the answer to the question above.
 *
 * `reach` never falls while the sort goes on. It is brought up to date when it is asked for: until
 * then it may be too small. It is right as long as the node that held the slot still holds it (`by`),
 * because what lies between that one and here cannot have been emitted. A node's children stand in a
 * heap whose keys, too, may be too small but never too large.
 *
 * Cost: O(E log E), and for each turn to another head a walk up to it as far as that has moved.
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
    uint64_t *todo;  /* not emitted yet */
    uint32_t *reach; /* node -> slot */
    uint32_t *by;    /* node -> who held that slot when it was looked up */
    uint32_t *own;   /* node -> its slot */
    uint32_t *heap;  /* children, in the ranges of graph->steps_up */
    uint32_t *keys;  /* of heap */
    uint32_t *size;  /* node -> length of its heap */
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

/* The child with the smallest reach as far as that is known, or NOWHERE. */
static uint32_t first_child(sorter *s, uint32_t node)
{
    uint32_t *heap = s->heap + s->graph->steps_up.start[node];
    uint32_t *keys = s->keys + s->graph->steps_up.start[node];
    while (s->size[node] > 0 && (keys[0] != s->reach[heap[0]] || keys[0] == NOWHERE)) {
        keys[0] = s->reach[heap[0]];
        if (keys[0] == NOWHERE) {
            uint32_t last = --s->size[node];
            heap[0] = heap[last];
            keys[0] = keys[last];
        }
        if (s->size[node] > 0)
            sift_down(s, node, 0);
    }
    return s->size[node] > 0 ? heap[0] : NOWHERE;
}

static bool is_up_to_date(const sorter *s, uint32_t node)
{
    return s->reach[node] == NOWHERE ||
           (s->by[node] != NOWHERE && s->own[s->by[node]] == s->reach[node]);
}

static mig_status bring_up_to_date(sorter *s, uint32_t node)
{
    mig_nodes stack = {NULL, 0, 0};
    mig_status status = mig_nodes_push(s->query, &stack, node);
    while (stack.count > 0 && status == MIG_OK) {
        node = stack.items[stack.count - 1];
        uint32_t child = first_child(s, node);
        uint32_t reach = child == NOWHERE ? NOWHERE : s->reach[child];
        if (s->own[node] <= reach) {
            s->reach[node] = s->own[node];
            s->by[node] = node;
            stack.count--;
        } else if (is_up_to_date(s, child)) {
            s->reach[node] = reach;
            s->by[node] = s->by[child];
            stack.count--;
        } else {
            status = mig_nodes_push(s->query, &stack, child);
        }
    }
    return status;
}

/* The first slot from which `node` is reached through a child, or NOWHERE. */
static mig_status first_above(sorter *s, uint32_t node, uint32_t *number)
{
    uint32_t child;
    while ((child = first_child(s, node)) != NOWHERE && !is_up_to_date(s, child)) {
        mig_status status = bring_up_to_date(s, child);
        if (status != MIG_OK)
            return status;
    }
    *number = child == NOWHERE ? NOWHERE : s->reach[child];
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
    s->reach[node] = NOWHERE;
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
    s.todo = mig_query_marks(query);
    uint64_t *is_start = mig_query_marks(query);
    s.reach = filled(query, graph->count, 0);
    s.by = filled(query, graph->count, NOWHERE);
    s.own = filled(query, graph->count, NOWHERE);
    s.size = filled(query, graph->count, 0);
    s.heap = mig_arena_get_array(&query->arena, edges, sizeof *s.heap);
    s.keys = filled(query, edges, 0);
    /* a slot for each head at the start, and for each edge at the most */
    s.slots = mig_arena_get_array(&query->arena, (size_t)graph->count + edges, sizeof *s.slots);
    if (s.todo == NULL || is_start == NULL || s.reach == NULL || s.by == NULL || s.own == NULL ||
        s.size == NULL || s.heap == NULL || s.keys == NULL || s.slots == NULL)
        return MIG_ENOMEM;
    memcpy(s.todo, todo, words * sizeof *todo);
    memcpy(s.heap, graph->steps_up.to, edges * sizeof *s.heap);
    for (uint32_t i = 0; i < heads.count; i++) {
        if (heads.items[i] < graph->count && mig_marked(todo, heads.items[i]))
            mig_mark(is_start, heads.items[i]);
    }
    for (uint32_t i = 0; i < graph->count; i++) {
        s.size[i] = mig_edges_of(&graph->steps_up, i).count;
        if (mig_marked(is_start, i))
            append_slot(&s, i);
    }
    mig_status status = MIG_OK;
    for (uint32_t at = s.first; at != NOWHERE && status == MIG_OK;) {
        uint32_t other;
        status = first_above(&s, s.slots[at].node, &other);
        if (status != MIG_OK)
            break;
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
