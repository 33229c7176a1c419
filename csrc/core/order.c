/*
 * RevisionMap._topological_sort of alembic/script/revision.py, in O(E log E).
 *
 * Alembic keeps a list of current heads and looks at one of them, the candidate, at a time. If the
 * candidate is an ancestor of another current head, it turns to the first such head in the list;
 * if not, it emits the candidate and puts its down revisions in its place. For that question it
 * keeps the set of ancestors of each head, made anew at each merge, which is quadratic.
 *
 * Here a head is a *slot*. The list only deletes and appends, so slots keep their order, and their
 * numbers are ascending. A node that is reached from a head, itself included, is *alive*; a
 * candidate has to wait as long as a node directly above it is alive, which is a count.
 *
 * It waits for the smallest slot above it. The first down revisions alone make a forest,
 * and what is above a node there is a range of the forest's preorder: a tree of minima over it
 * answers. Each other edge has a leaf in the range of its lower end, with the smallest slot above
 * its upper end as last known. That number never falls, so it is looked up again, the same way,
 * only when it is the smallest of a range: either it is confirmed, or the next one is tried. An
 * edge whose ends the forest connects already (a dependency on an ancestor) adds nothing.
 *
 * A head that moves down along the forest stays registered where it was: no node in between is left
 * to ask for it.
 *
 * Cost: O((V + E) log E), and where heads wait for each other across trees of the forest, one step
 * for each edge between them.
 */
#include "core/order.h"

#include <string.h>

#include "core/graph_walk.h"

#define NOWHERE UINT32_MAX

typedef struct slot {
    uint32_t node;
    uint32_t leaf; /* where it is registered */
    uint32_t previous, next;
} slot;

/* A look-up that waits for the one pushed after it. */
typedef struct frame {
    uint32_t node;
    uint32_t leaf; /* of the edge that asks */
} frame;

typedef struct sorter {
    mig_query *query;
    const mig_graph *graph;
    uint64_t *todo;  /* not emitted yet */
    uint32_t *above; /* node -> how many right above it are alive */
    uint32_t *own;   /* node -> its slot */

    mig_ancestry ancestry;
    uint32_t *known_at; /* leaf of an edge -> when it was looked up */
    uint32_t *least;    /* the tree of minima: twice a slot's number, and one more for an edge */
    uint32_t now;

    slot *slots;
    uint32_t slot_count, first, last;
    frame *frames; /* at most one for each edge between trees of the forest */
    uint32_t frame_count, frame_capacity;
    mig_nodes dying;
} sorter;

/* The tree of minima -------------------------------------------------------------------------- */

static void set_leaf(sorter *s, uint32_t leaf, uint32_t value)
{
    uint32_t at = leaf + s->ancestry.leaf_count;
    s->least[at] = value;
    for (at /= 2; at > 0; at /= 2) {
        uint32_t left = s->least[2 * at], right = s->least[2 * at + 1];
        uint32_t smaller = left < right ? left : right;
        s->query->work++;
        if (s->least[at] == smaller)
            break;
        s->least[at] = smaller;
    }
}

/* Compare the subtree at `at` with the smallest one so far. */
static void look(const sorter *s, uint32_t at, uint32_t *smallest)
{
    if (s->least[at] < s->least[*smallest])
        *smallest = at;
}

/* The leaf with the smallest value from `begin` up to `end`, or NOWHERE. */
static uint32_t least_leaf(sorter *s, uint32_t begin, uint32_t end)
{
    uint32_t smallest = 0; /* its value is NOWHERE */
    begin += s->ancestry.leaf_count;
    end += s->ancestry.leaf_count;
    for (; begin < end; begin /= 2, end /= 2) {
        s->query->work++;
        if (begin & 1u)
            look(s, begin++, &smallest);
        if (end & 1u)
            look(s, --end, &smallest);
    }
    if (s->least[smallest] == NOWHERE)
        return NOWHERE;
    while (smallest < s->ancestry.leaf_count)
        smallest = 2 * smallest + (s->least[2 * smallest] != s->least[smallest]);
    return smallest - s->ancestry.leaf_count;
}

static uint32_t leaf_value(const sorter *s, uint32_t leaf)
{
    return leaf == NOWHERE ? NOWHERE : s->least[leaf + s->ancestry.leaf_count];
}

static mig_status push_frame(sorter *s, uint32_t node, uint32_t leaf)
{
    if (s->frame_count == s->frame_capacity) {
        uint32_t capacity = s->frame_capacity < 16 ? 16 : s->frame_capacity * 2;
        frame *frames = mig_arena_get_array(&s->query->arena, capacity, sizeof *frames);
        if (frames == NULL)
            return MIG_ENOMEM;
        if (s->frame_count > 0)
            memcpy(frames, s->frames, s->frame_count * sizeof *frames);
        s->frames = frames;
        s->frame_capacity = capacity;
    }
    s->frames[s->frame_count++] = (frame){node, leaf};
    return MIG_OK;
}

/* The first slot other than its own from which `head`, a current head, is reached. */
static mig_status first_above(sorter *s, uint32_t head, uint32_t *number)
{
    uint32_t own = s->slots[s->own[head]].leaf;
    uint32_t after = own >= s->ancestry.begin[head] && own < s->ancestry.end[head]
                         ? own + 1
                         : s->ancestry.begin[head];
    mig_status status = push_frame(s, head, NOWHERE);
    while (s->frame_count > 0 && status == MIG_OK) {
        const frame *top = &s->frames[s->frame_count - 1];
        uint32_t leaf = least_leaf(s, top->leaf == NOWHERE ? after : s->ancestry.begin[top->node],
                                   s->ancestry.end[top->node]);
        if (top->leaf == NOWHERE && after > s->ancestry.begin[head]) {
            uint32_t before = least_leaf(s, s->ancestry.begin[head], own);
            if (leaf_value(s, before) < leaf_value(s, leaf))
                leaf = before;
        }
        uint32_t value = leaf_value(s, leaf);
        if (value != NOWHERE && (value & 1u) != 0 && s->known_at[leaf] != s->now) {
            status = push_frame(s, s->ancestry.from[leaf], leaf);
            continue;
        }
        s->frame_count--;
        if (top->leaf == NOWHERE) {
            *number = value == NOWHERE ? NOWHERE : value / 2;
        } else {
            s->known_at[top->leaf] = s->now;
            set_leaf(s, top->leaf, value | 1u);
        }
    }
    s->frame_count = 0;
    return status;
}

/* The list of heads --------------------------------------------------------------------------- */

static void register_slot(sorter *s, uint32_t number, uint32_t node)
{
    slot *holder = &s->slots[number];
    if (holder->leaf != NOWHERE)
        set_leaf(s, holder->leaf, NOWHERE);
    holder->leaf = s->ancestry.begin[node];
    set_leaf(s, holder->leaf, 2 * number);
}

static uint32_t append_slot(sorter *s, uint32_t node)
{
    uint32_t number = s->slot_count++;
    s->slots[number] = (slot){node, NOWHERE, s->last, NOWHERE};
    if (s->last != NOWHERE)
        s->slots[s->last].next = number;
    else
        s->first = number;
    s->last = number;
    s->own[node] = number;
    return number;
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
    set_leaf(s, gone->leaf, NOWHERE);
    return gone->previous != NOWHERE ? gone->previous : s->first;
}

/* `node` is no longer alive, nor is any node that was alive only because of it. */
static mig_status die(sorter *s, uint32_t node)
{
    const mig_edges *edges = &s->graph->steps_down;
    MIG_TRY(mig_nodes_push(s->query, &s->dying, node));
    while (s->dying.count > 0) {
        node = s->dying.items[--s->dying.count];
        for (uint32_t e = edges->start[node]; e < edges->start[node + 1]; e++) {
            uint32_t below = edges->to[e], leaf = s->ancestry.edge_leaf[e];
            s->query->work++;
            if (leaf != NOWHERE && leaf_value(s, leaf) != NOWHERE)
                set_leaf(s, leaf, NOWHERE);
            if (--s->above[below] == 0 && s->own[below] == NOWHERE)
                MIG_TRY(mig_nodes_push(s->query, &s->dying, below));
        }
    }
    return MIG_OK;
}

/* Emit the node of slot `number`; the slot to look at next. */
static mig_status emit(sorter *s, uint32_t *number, mig_nodes *found)
{
    uint32_t node = s->slots[*number].node;
    MIG_TRY(mig_nodes_push(s->query, found, node));
    mig_unmark(s->todo, node);
    mig_span down = mig_edges_of(&s->graph->steps_down, node);
    bool replaced = false;
    for (uint32_t i = 0; i < down.count; i++) {
        uint32_t below = down.items[i];
        if (!mig_marked(s->todo, below) || s->own[below] != NOWHERE)
            continue;
        if (replaced) {
            register_slot(s, append_slot(s, below), below);
            continue;
        }
        replaced = true;
        s->slots[*number].node = below;
        s->own[below] = *number;
        if (i > 0)
            register_slot(s, *number, below);
    }
    if (!replaced)
        *number = delete_slot(s, *number);
    s->own[node] = NOWHERE;
    s->now++;
    return die(s, node);
}

/* Set-up --------------------------------------------------------------------------------------- */

/* Which nodes are alive at the start, and the smallest slot above each: the values of all leaves.
 */
static mig_status fill_leaves(sorter *s)
{
    const mig_graph *graph = s->graph;
    const mig_edges *down = &graph->steps_down;
    uint32_t *reach = mig_arena_filled(&s->query->arena, graph->count, NOWHERE);
    s->least = mig_arena_filled(&s->query->arena, 2 * (size_t)s->ancestry.leaf_count + 2, NOWHERE);
    s->known_at = mig_arena_filled(&s->query->arena, s->ancestry.leaf_count, 0);
    if (reach == NULL || s->least == NULL || s->known_at == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = graph->count; i-- > 0;) {
        uint32_t node = s->ancestry.order[i];
        if (s->own[node] < reach[node])
            reach[node] = s->own[node];
        if (reach[node] == NOWHERE)
            continue;
        for (uint32_t e = down->start[node]; e < down->start[node + 1]; e++) {
            uint32_t below = down->to[e], leaf = s->ancestry.edge_leaf[e];
            s->above[below]++;
            if (reach[node] < reach[below])
                reach[below] = reach[node];
            if (leaf != NOWHERE)
                s->least[leaf + s->ancestry.leaf_count] = 2 * reach[node] + 1;
        }
    }
    for (uint32_t i = 0; i < s->slot_count; i++) {
        s->slots[i].leaf = s->ancestry.begin[s->slots[i].node];
        s->least[s->slots[i].leaf + s->ancestry.leaf_count] = 2 * i;
    }
    for (uint32_t i = s->ancestry.leaf_count; i-- > 1;)
        s->least[i] = s->least[2 * i] < s->least[2 * i + 1] ? s->least[2 * i] : s->least[2 * i + 1];
    s->query->work += (uint64_t)graph->count + down->start[graph->count];
    s->now = 1;
    return MIG_OK;
}

static mig_status begin_sort(sorter *s, const uint64_t *todo, mig_span heads)
{
    const mig_graph *graph = s->graph;
    size_t words = mig_mark_words(graph);
    s->todo = mig_query_marks(s->query);
    uint64_t *is_start = mig_query_marks(s->query);
    s->above = mig_arena_filled(&s->query->arena, graph->count, 0);
    s->own = mig_arena_filled(&s->query->arena, graph->count, NOWHERE);
    /* a node is a head once at the most */
    s->slots = mig_arena_get_array(&s->query->arena, graph->count, sizeof *s->slots);
    if (s->todo == NULL || is_start == NULL || s->above == NULL || s->own == NULL ||
        s->slots == NULL)
        return MIG_ENOMEM;
    memcpy(s->todo, todo, words * sizeof *todo);
    for (uint32_t i = 0; i < heads.count; i++) {
        if (heads.items[i] < graph->count && mig_marked(todo, heads.items[i]))
            mig_mark(is_start, heads.items[i]);
    }
    for (uint32_t i = 0; i < graph->count; i++) {
        if (mig_marked(is_start, i))
            (void)append_slot(s, i);
    }
    MIG_TRY(mig_graph_ancestry(s->query, &s->ancestry));
    return fill_leaves(s);
}

mig_status mig_topological_sort(mig_query *query, const uint64_t *todo, mig_span heads,
                                mig_nodes *found)
{
    size_t words = mig_mark_words(query->graph);
    bool any = false;
    for (size_t i = 0; i < words; i++)
        any = any || todo[i] != 0;
    if (!any)
        return MIG_OK;
    sorter s = {.query = query, .graph = query->graph, .first = NOWHERE, .last = NOWHERE};
    MIG_TRY(begin_sort(&s, todo, heads));
    for (uint32_t at = s.first; at != NOWHERE;) {
        uint32_t node = s.slots[at].node;
        query->work++;
        if (s.above[node] > 0)
            MIG_TRY(first_above(&s, node, &at));
        else
            MIG_TRY(emit(&s, &at, found));
    }
    for (size_t i = 0; i < words; i++) {
        if (s.todo[i] != 0)
            return MIG_GRAPH_FAIL(query->error, MIG_GRAPH_ASSERTION,
                                  MIG_TEXT("revisions are left that no head leads to"));
    }
    return MIG_OK;
}
