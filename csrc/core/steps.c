/* What steps write to the version table: see steps.h for the rules that it keeps in step with. */
#include "core/steps.h"

#include <string.h>

#include "core/graph_walk.h"
#include "core/place_set.h"
#include "core/resolve.h"

/*
 * Current heads during a run, with reference counts of what they imply: the count of a node in
 * `cover` is one if it is a head, and one for each revision directly above it that is covered
 * itself. So a node is covered while a head is at or above it, the counts change only where a row
 * is added or removed, and a run of steps costs O(V + E).
 */
typedef struct current_heads {
    mig_query *query;
    mig_version_ops *ops;
    uint64_t *is_head; /* revisions */
    uint32_t *cover;
    mig_ancestry ancestry; /* filled when a step needs it */
    mig_place_set there;   /* leaves: of heads, and of edges that come from covered nodes */
    uint32_t *seen;        /* node: the last search that visited it */
    uint32_t *left_out;    /* node: the last round of searches that did not count it as a head */
    uint32_t search, round;
    mig_nodes stack;  /* empty between two uses */
    mig_nodes listed; /* the revisions in is_head */
    uint32_t *place;  /* node: where it is listed */
    mig_text *others; /* rows that are no revision's id */
    uint32_t other_count, other_capacity;
    uint32_t step;
} current_heads;

/* The revision of exactly this id. */
static uint32_t node_of(const mig_graph *graph, mig_text name)
{
    uint32_t node = mig_graph_lookup(graph, name);
    bool is_id = node != MIG_NODE_NONE && mig_text_equal(graph->names[node], name);
    return is_id ? node : MIG_NODE_NONE;
}

/* Where `name` is among the other rows; other_count if it is not. */
static uint32_t find_other(const current_heads *heads, mig_text name)
{
    uint32_t i = 0;
    while (i < heads->other_count && !mig_text_equal(heads->others[i], name))
        i++;
    return i;
}

static bool is_head(const current_heads *heads, mig_text name)
{
    uint32_t node = node_of(heads->query->graph, name);
    if (node != MIG_NODE_NONE)
        return mig_marked(heads->is_head, node);
    return find_other(heads, name) < heads->other_count;
}

static bool are_lines_laid(const current_heads *heads)
{
    return heads->there.count > 0;
}

static void put_head(current_heads *heads, uint32_t node, bool is_head)
{
    if (are_lines_laid(heads))
        mig_place_set_put(&heads->there, heads->ancestry.begin[node], is_head);
}

/* Put the edges down from `node` into the set, or take them out, as it becomes covered or stops
 * being so. */
static void put_edges(current_heads *heads, uint32_t node, bool is_covered)
{
    const mig_edges *down = &heads->query->graph->steps_down;
    if (!are_lines_laid(heads))
        return;
    for (uint32_t e = down->start[node]; e < down->start[node + 1]; e++) {
        if (heads->ancestry.edge_leaf[e] != MIG_NODE_NONE)
            mig_place_set_put(&heads->there, heads->ancestry.edge_leaf[e], is_covered);
    }
}

static mig_status lay_lines(current_heads *heads)
{
    MIG_TRY(mig_graph_ancestry(heads->query, &heads->ancestry));
    MIG_TRY(mig_place_set_init(&heads->there, &heads->query->arena, heads->ancestry.leaf_count));
    for (uint32_t i = 0; i < heads->query->graph->count; i++) {
        if (mig_marked(heads->is_head, i))
            put_head(heads, i, true);
        if (heads->cover[i] > 0)
            put_edges(heads, i, true);
    }
    return MIG_OK;
}

static mig_status add_head(current_heads *heads, mig_text name)
{
    uint32_t node = node_of(heads->query->graph, name);
    if (node != MIG_NODE_NONE) {
        mig_mark(heads->is_head, node);
        put_head(heads, node, true);
        heads->place[node] = heads->listed.count;
        return mig_nodes_push(heads->query, &heads->listed, node);
    }
    if (heads->other_count == heads->other_capacity) {
        uint32_t capacity = heads->other_capacity < 8 ? 8 : heads->other_capacity * 2;
        mig_text *items = mig_arena_get_array(&heads->query->arena, capacity, sizeof *items);
        if (items == NULL)
            return MIG_ENOMEM;
        if (heads->other_count > 0)
            memcpy(items, heads->others, heads->other_count * sizeof *items);
        heads->others = items;
        heads->other_capacity = capacity;
    }
    heads->others[heads->other_count++] = name;
    return MIG_OK;
}

static mig_status remove_head(current_heads *heads, mig_text name)
{
    if (!is_head(heads, name))
        return mig_graph_fail_names(heads->query->error, MIG_GRAPH_KEY, &name, 1);
    uint32_t node = node_of(heads->query->graph, name);
    if (node != MIG_NODE_NONE) {
        uint32_t last = heads->listed.items[--heads->listed.count];
        heads->listed.items[heads->place[node]] = last;
        heads->place[last] = heads->place[node];
        mig_unmark(heads->is_head, node);
        put_head(heads, node, false);
        return MIG_OK;
    }
    uint32_t i = find_other(heads, name);
    heads->other_count--;
    memmove(&heads->others[i], &heads->others[i + 1],
            (heads->other_count - i) * sizeof *heads->others);
    return MIG_OK;
}

/* A row is added or removed: count that, and go down through the nodes that become covered, or stop
 * being so. */
static mig_status count_cover(current_heads *heads, mig_text name, bool comes)
{
    mig_query *query = heads->query;
    mig_nodes *changed = &heads->stack;
    uint32_t node = node_of(query->graph, name);
    if (node == MIG_NODE_NONE)
        return MIG_OK;
    MIG_TRY(mig_nodes_push(query, changed, node));
    while (changed->count > 0) {
        node = changed->items[--changed->count];
        if (comes ? heads->cover[node]++ > 0 : --heads->cover[node] > 0)
            continue;
        put_edges(heads, node, comes);
        mig_span down = mig_edges_of(&query->graph->steps_down, node);
        query->work += 1 + down.count;
        for (uint32_t i = 0; i < down.count; i++)
            MIG_TRY(mig_nodes_push(query, changed, down.items[i]));
    }
    return MIG_OK;
}

/* After a step: additions first, or all that a moved row implies would be uncovered and covered
 * again. */
static mig_status count_step(current_heads *heads, uint32_t first)
{
    const mig_version_ops *ops = heads->ops;
    for (uint32_t i = first; i < ops->count; i++) {
        if (ops->items[i].kind != MIG_VERSION_DELETE)
            MIG_TRY(count_cover(heads, ops->items[i].to, true));
    }
    for (uint32_t i = first; i < ops->count; i++) {
        if (ops->items[i].kind != MIG_VERSION_INSERT)
            MIG_TRY(count_cover(heads, ops->items[i].from, false));
    }
    return MIG_OK;
}

static mig_status add_operation(current_heads *heads, mig_version_op_kind kind, mig_text from,
                                mig_text to)
{
    return mig_version_ops_push(heads->ops, &heads->query->arena,
                                (mig_version_op){kind, heads->step, from, to});
}

static mig_status insert(current_heads *heads, mig_text version)
{
    if (is_head(heads, version))
        return mig_query_assert(heads->query, "a revision to be inserted is in the version table");
    MIG_TRY(add_head(heads, version));
    return add_operation(heads, MIG_VERSION_INSERT, MIG_NO_TEXT, version);
}

static mig_status delete(current_heads *heads, mig_text version)
{
    MIG_TRY(remove_head(heads, version));
    return add_operation(heads, MIG_VERSION_DELETE, version, MIG_NO_TEXT);
}

static mig_status update(current_heads *heads, mig_text from, mig_text to)
{
    if (is_head(heads, to))
        return mig_query_assert(heads->query,
                                "a revision to be updated to is in the version table");
    MIG_TRY(remove_head(heads, from));
    MIG_TRY(add_head(heads, to));
    return add_operation(heads, MIG_VERSION_UPDATE, from, to);
}

/* A merge: all but the last of `from` are deleted, and that one becomes `to`. */
static mig_status merge(current_heads *heads, mig_ids from, mig_text to)
{
    for (size_t i = 0; i + 1 < from.count; i++)
        MIG_TRY(delete(heads, from.items[i]));
    return update(heads, from.items[from.count - 1], to);
}

/* The undoing of a merge: all but the last of `to` are inserted, and `from` becomes that one. */
static mig_status unmerge(current_heads *heads, mig_text from, mig_ids to)
{
    for (size_t i = 0; i + 1 < to.count; i++)
        MIG_TRY(insert(heads, to.items[i]));
    return update(heads, from, to.items[to.count - 1]);
}

/* Stamps ------------------------------------------------------------------------------------- */

static bool any_is_new(const current_heads *heads, mig_ids names)
{
    for (size_t i = 0; i < names.count; i++) {
        if (!is_head(heads, names.items[i]))
            return true;
    }
    return false;
}

static mig_status stamp(current_heads *heads, const mig_step *step)
{
    mig_ids from = step->from, to = step->to;
    const char *wrong = "a stamp between numbers of revisions that do not go together";
    if (!step->is_upgrade && step->branch_move)
        return from.count == 1 ? delete(heads, from.items[0])
                               : mig_query_assert(heads->query, wrong);
    if (step->is_upgrade && (step->branch_move || any_is_new(heads, from)) && any_is_new(heads, to))
        return to.count == 1 ? insert(heads, to.items[0]) : mig_query_assert(heads->query, wrong);
    if (from.count > 1 && to.count > 0)
        return merge(heads, from, to.items[0]);
    if (to.count > 1 && from.count > 0)
        return unmerge(heads, from.items[0], to);
    if (from.count != 1 || to.count != 1)
        return mig_query_assert(heads->query, wrong);
    return update(heads, from.items[0], to.items[0]);
}

/* Migrations --------------------------------------------------------------------------------- */

/*
 * Is `node` at or below a head that is not left out? The rank of those left out is `limit` at most,
 * so a covered node of that rank or above that is not one of them is covered by another head.
 */
static mig_status is_implied(current_heads *heads, uint32_t node, uint32_t limit, bool *implied)
{
    const mig_ancestry *ancestry = &heads->ancestry;
    mig_nodes *stack = &heads->stack;
    *implied = false;
    heads->search++; /* cannot overflow: fewer than edges of the steps */
    heads->seen[node] = heads->search;
    MIG_TRY(mig_nodes_push(heads->query, stack, node));
    while (stack->count > 0 && !*implied) {
        node = stack->items[--stack->count];
        uint32_t end = ancestry->end[node];
        for (uint32_t leaf = mig_place_set_next(&heads->there, ancestry->begin[node], end);
             leaf < end && !*implied; leaf = mig_place_set_next(&heads->there, leaf + 1, end)) {
            uint32_t above = ancestry->from[leaf];
            bool is_head = leaf == ancestry->begin[above];
            heads->query->work++;
            *implied = heads->left_out[above] != heads->round &&
                       (is_head || ancestry->rank[above] >= limit);
            if (is_head || heads->seen[above] == heads->search)
                continue;
            heads->seen[above] = heads->search;
            MIG_TRY(mig_nodes_push(heads->query, stack, above));
        }
    }
    stack->count = 0;
    return MIG_OK;
}

/* `down` without the revisions that heads other than `except` imply
 * (RevisionStep.merge_branch_idents). */
static mig_status not_implied(current_heads *heads, mig_span down, mig_span except, mig_nodes *left)
{
    mig_query *query = heads->query;
    uint64_t *by_others = NULL;
    uint32_t limit = 0;
    if (heads->other_count > 0) {
        mig_nodes others = {NULL, 0, 0};
        by_others = mig_query_marks(query);
        if (by_others == NULL)
            return MIG_ENOMEM;
        MIG_TRY(
            mig_get_revisions(query, (mig_ids){heads->others, heads->other_count, true}, &others));
        MIG_TRY(mig_graph_walk(query, &query->graph->steps_down, mig_nodes_span(&others), false,
                               by_others, NULL));
    }
    if (!are_lines_laid(heads))
        MIG_TRY(lay_lines(heads));
    heads->round++;
    for (uint32_t i = 0; i < except.count; i++) {
        heads->left_out[except.items[i]] = heads->round;
        if (heads->ancestry.rank[except.items[i]] > limit)
            limit = heads->ancestry.rank[except.items[i]];
    }
    for (uint32_t i = 0; i < down.count; i++) {
        bool implied = by_others != NULL && mig_marked(by_others, down.items[i]);
        if (!implied)
            MIG_TRY(is_implied(heads, down.items[i], limit, &implied));
        if (!implied)
            MIG_TRY(mig_nodes_push(query, left, down.items[i]));
    }
    return MIG_OK;
}

/* RevisionStep._unmerge_to_revisions: `down` without the revisions that other heads imply. */
static mig_status unmerge_to(current_heads *heads, uint32_t node, mig_span down, mig_nodes *left)
{
    if (heads->other_count > 0 || (heads->listed.count > 1 && down.count > 1))
        return not_implied(heads, down, (mig_span){&node, 1}, left);
    /* If there is one revision below, whatever else covers it is not below `node`. If `node` is the
     * only head, whatever else covers a revision below is itself below another one. */
    for (uint32_t i = 0; i < down.count; i++) {
        if (heads->cover[node] == 1 && heads->cover[down.items[i]] == 1)
            MIG_TRY(mig_nodes_push(heads->query, left, down.items[i]));
    }
    return MIG_OK;
}

static mig_status migrate(current_heads *heads, const mig_step *step)
{
    mig_query *query = heads->query;
    const mig_graph *graph = query->graph;
    mig_text revision = graph->names[step->node];
    mig_span down = mig_edges_of(&graph->steps_down, step->node);
    mig_nodes left = {NULL, 0, 0};
    mig_ids names;
    uint32_t present = MIG_NODE_NONE, present_count = 0;
    for (uint32_t i = 0; i < down.count; i++) {
        if (mig_marked(heads->is_head, down.items[i])) {
            present = down.items[i];
            present_count++;
        }
    }
    if (step->is_upgrade) {
        if (present_count == 0)
            return insert(heads, revision);
        if (present_count > 1) {
            MIG_TRY(not_implied(heads, down, down, &left));
            if (left.count == 0)
                return mig_query_assert(query, "a merge of revisions that other heads imply");
            MIG_TRY(mig_query_names(query, mig_nodes_span(&left), &names));
            return merge(heads, names, revision);
        }
    } else if (mig_marked(heads->is_head, step->node)) {
        if (down.count == 0)
            return delete(heads, revision);
        MIG_TRY(unmerge_to(heads, step->node, down, &left));
        if (left.count == 0)
            return delete(heads, revision);
        MIG_TRY(mig_query_names(query, mig_nodes_span(&left), &names));
        if (down.count > 1)
            return unmerge(heads, revision, names);
    }
    if (down.count == 1)
        present = down.items[0];
    else if (present_count != 1)
        return mig_query_assert(query, "Can't do an UPDATE because downrevision is ambiguous");
    return step->is_upgrade ? update(heads, graph->names[present], revision)
                            : update(heads, revision, graph->names[present]);
}

/* Runs --------------------------------------------------------------------------------------- */

static mig_status begin_run(current_heads *heads, mig_query *query)
{
    size_t nodes = query->graph->count;
    *heads = (current_heads){.query = query};
    heads->is_head = mig_query_marks(query);
    heads->cover = mig_arena_get_array(&query->arena, nodes, sizeof *heads->cover);
    heads->seen = mig_arena_get_array(&query->arena, nodes, sizeof *heads->seen);
    heads->left_out = mig_arena_get_array(&query->arena, nodes, sizeof *heads->left_out);
    heads->place = mig_arena_get_array(&query->arena, nodes, sizeof *heads->place);
    if (heads->is_head == NULL || heads->cover == NULL || heads->seen == NULL ||
        heads->left_out == NULL || heads->place == NULL)
        return MIG_ENOMEM;
    memset(heads->cover, 0, nodes * sizeof *heads->cover);
    memset(heads->seen, 0, nodes * sizeof *heads->seen);
    memset(heads->left_out, 0, nodes * sizeof *heads->left_out);
    return MIG_OK;
}

/* Make `rows` the content of the table, whatever it was before. Additions first: see count_step. */
static mig_status move_to(current_heads *heads, mig_ids rows)
{
    const mig_graph *graph = heads->query->graph;
    uint32_t wanted = ++heads->round;
    for (size_t i = 0; i < rows.count; i++) {
        uint32_t node = node_of(graph, rows.items[i]);
        if (node != MIG_NODE_NONE)
            heads->left_out[node] = wanted;
        if (is_head(heads, rows.items[i]))
            continue;
        MIG_TRY(add_head(heads, rows.items[i]));
        MIG_TRY(count_cover(heads, rows.items[i], true));
    }
    for (uint32_t i = heads->listed.count; i-- > 0;) {
        uint32_t node = heads->listed.items[i];
        if (heads->left_out[node] == wanted)
            continue;
        MIG_TRY(remove_head(heads, graph->names[node]));
        MIG_TRY(count_cover(heads, graph->names[node], false));
    }
    return MIG_OK;
}

static mig_status run_step(current_heads *heads, const mig_step *step)
{
    uint32_t first = heads->ops->count;
    MIG_TRY(step->is_stamp ? stamp(heads, step) : migrate(heads, step));
    return count_step(heads, first);
}

mig_status mig_steps_version_ops(mig_query *query, mig_ids rows, const mig_step *steps,
                                 size_t count, mig_version_ops *ops)
{
    current_heads heads;
    MIG_TRY(begin_run(&heads, query));
    heads.ops = ops;
    MIG_TRY(move_to(&heads, rows));
    for (size_t i = 0; i < count; i++) {
        heads.step = (uint32_t)i;
        MIG_TRY(run_step(&heads, &steps[i]));
    }
    return MIG_OK;
}

struct mig_step_tracker {
    mig_query query;
    current_heads heads;
    bool is_kept;   /* `heads` is the content of the table after the last step */
    uint32_t steps; /* since it was begun: the arena grows with them */
};

mig_step_tracker *mig_step_tracker_new(const mig_graph *graph)
{
    mig_step_tracker *tracker = mig_alloc_array(graph->alloc, 1, sizeof *tracker);
    if (tracker != NULL)
        mig_query_init(&tracker->query, graph, NULL);
    return tracker;
}

void mig_step_tracker_free(mig_step_tracker *tracker)
{
    if (tracker == NULL)
        return;
    const mig_alloc *alloc = tracker->query.graph->alloc;
    mig_query_release(&tracker->query);
    alloc->release(alloc->ctx, tracker);
}

mig_status mig_step_tracker_step(mig_step_tracker *tracker, mig_ids heads, const mig_step *step,
                                 mig_version_ops *ops, mig_graph_error *error)
{
    const mig_graph *graph = tracker->query.graph;
    bool is_kept = tracker->is_kept && tracker->steps++ <= graph->count;
    bool keep = true; /* names that are not in the graph are borrowed from the caller */
    for (size_t i = 0; i < heads.count; i++)
        keep = keep && node_of(graph, heads.items[i]) != MIG_NODE_NONE;
    tracker->query.error = error;
    tracker->is_kept = false;
    if (!is_kept || !keep) {
        mig_query_release(&tracker->query);
        tracker->steps = 0;
        MIG_TRY(begin_run(&tracker->heads, &tracker->query));
    }
    tracker->heads.ops = ops;
    MIG_TRY(move_to(&tracker->heads, heads));
    MIG_TRY(run_step(&tracker->heads, step));
    tracker->is_kept = keep;
    return MIG_OK;
}
