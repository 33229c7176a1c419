#include "core/plan.h"

#include <string.h>

#define TRY(call)                                                                                  \
    do {                                                                                           \
        mig_status try_status = (call);                                                            \
        if (try_status != MIG_OK)                                                                  \
            return try_status;                                                                     \
    } while (0)

/*
 * The heads while the steps go by, and what they imply: `cover` counts, of a node, itself if it is
 * a head and each revision right above it that is covered. A head above something means that it is
 * covered; so the counts change only where a step comes or goes, and a run of steps costs O(V + E).
 */
typedef struct heads_now {
    mig_query *query;
    mig_operations *operations;
    uint64_t *is_head; /* revisions */
    uint32_t *cover;
    uint32_t *rank;    /* the longest way down; NULL until a question needs it */
    uint32_t *seen;    /* node: the last search that came by */
    uint32_t *left_out; /* node: the last search that did not count it as a head */
    uint32_t search;
    uint32_t count;  /* of is_head */
    mig_name *others; /* rows that are no revision's id */
    uint32_t other_count, other_capacity;
    uint32_t step;
} heads_now;

static mig_status assertion(mig_query *query, const char *text)
{
    mig_name message = {text, strlen(text)};
    return mig_graph_fail_pieces(query->error, MIG_GRAPH_ASSERTION, &message, 1);
}

/* The revision of exactly this id. */
static uint32_t node_of(const mig_graph *graph, mig_name name)
{
    uint32_t node = mig_graph_lookup(graph, name);
    bool is_id = node != MIG_NODE_NONE && mig_name_equal(graph->names[node], name);
    return is_id ? node : MIG_NODE_NONE;
}

/* Where `name` is among the other rows; other_count if it is not. */
static uint32_t find_other(const heads_now *heads, mig_name name)
{
    uint32_t i = 0;
    while (i < heads->other_count && !mig_name_equal(heads->others[i], name))
        i++;
    return i;
}

static bool is_head(const heads_now *heads, mig_name name)
{
    uint32_t node = node_of(heads->query->graph, name);
    if (node != MIG_NODE_NONE)
        return mig_marked(heads->is_head, node);
    return find_other(heads, name) < heads->other_count;
}

static mig_status add_head(heads_now *heads, mig_name name)
{
    uint32_t node = node_of(heads->query->graph, name);
    if (node != MIG_NODE_NONE) {
        mig_mark(heads->is_head, node);
        heads->count++;
        return MIG_OK;
    }
    if (heads->other_count == heads->other_capacity) {
        uint32_t capacity = heads->other_capacity < 8 ? 8 : heads->other_capacity * 2;
        mig_name *items = mig_arena_get_array(&heads->query->arena, capacity, sizeof *items);
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

static mig_status remove_head(heads_now *heads, mig_name name)
{
    if (!is_head(heads, name))
        return mig_graph_fail_names(heads->query->error, MIG_GRAPH_KEY, &name, 1);
    uint32_t node = node_of(heads->query->graph, name);
    if (node != MIG_NODE_NONE) {
        mig_unmark(heads->is_head, node);
        heads->count--;
        return MIG_OK;
    }
    uint32_t i = find_other(heads, name);
    heads->other_count--;
    memmove(&heads->others[i], &heads->others[i + 1],
            (heads->other_count - i) * sizeof *heads->others);
    return MIG_OK;
}

/* A row comes or goes: count that, and below it whatever is newly covered or no longer. */
static mig_status count_cover(heads_now *heads, mig_name name, bool comes)
{
    mig_query *query = heads->query;
    mig_nodes changed = {NULL, 0, 0};
    uint32_t node = node_of(query->graph, name);
    if (node == MIG_NODE_NONE)
        return MIG_OK;
    TRY(mig_nodes_push(query, &changed, node));
    while (changed.count > 0) {
        node = changed.items[--changed.count];
        if (comes ? heads->cover[node]++ > 0 : --heads->cover[node] > 0)
            continue;
        mig_span down = mig_edges_of(&query->graph->steps_down, node);
        for (uint32_t i = 0; i < down.count; i++)
            TRY(mig_nodes_push(query, &changed, down.items[i]));
    }
    return MIG_OK;
}

/* After a step: what came first, or all below a row that moves would go and come back. */
static mig_status count_step(heads_now *heads, uint32_t first)
{
    const mig_operations *operations = heads->operations;
    for (uint32_t i = first; i < operations->count; i++) {
        if (operations->items[i].kind != MIG_VERSION_DELETE)
            TRY(count_cover(heads, operations->items[i].to, true));
    }
    for (uint32_t i = first; i < operations->count; i++) {
        if (operations->items[i].kind != MIG_VERSION_INSERT)
            TRY(count_cover(heads, operations->items[i].from, false));
    }
    return MIG_OK;
}

static mig_status add_operation(heads_now *heads, mig_operation_kind kind, mig_name from,
                                mig_name to)
{
    mig_operations *operations = heads->operations;
    if (operations->count == operations->capacity) {
        uint32_t capacity = operations->capacity < 16 ? 16 : operations->capacity * 2;
        mig_operation *items = mig_arena_get_array(&heads->query->arena, capacity, sizeof *items);
        if (items == NULL || capacity > MIG_NODE_MAX)
            return MIG_ENOMEM;
        if (operations->count > 0)
            memcpy(items, operations->items, operations->count * sizeof *items);
        operations->items = items;
        operations->capacity = capacity;
    }
    operations->items[operations->count++] = (mig_operation){kind, heads->step, from, to};
    return MIG_OK;
}

static mig_status insert(heads_now *heads, mig_name version)
{
    if (is_head(heads, version))
        return assertion(heads->query, "a revision to be inserted is in the version table");
    TRY(add_head(heads, version));
    return add_operation(heads, MIG_VERSION_INSERT, MIG_NO_NAME, version);
}

static mig_status delete(heads_now *heads, mig_name version)
{
    TRY(remove_head(heads, version));
    return add_operation(heads, MIG_VERSION_DELETE, version, MIG_NO_NAME);
}

static mig_status update(heads_now *heads, mig_name from, mig_name to)
{
    if (is_head(heads, to))
        return assertion(heads->query, "a revision to be updated to is in the version table");
    TRY(remove_head(heads, from));
    TRY(add_head(heads, to));
    return add_operation(heads, MIG_VERSION_UPDATE, from, to);
}

/* A merge: all but the last of `from` go, that one becomes `to`. */
static mig_status merge(heads_now *heads, mig_ids from, mig_name to)
{
    for (size_t i = 0; i + 1 < from.count; i++)
        TRY(delete (heads, from.items[i]));
    return update(heads, from.items[from.count - 1], to);
}

/* Its undoing: all but the last of `to` come, that one is what `from` becomes. */
static mig_status unmerge(heads_now *heads, mig_name from, mig_ids to)
{
    for (size_t i = 0; i + 1 < to.count; i++)
        TRY(insert(heads, to.items[i]));
    return update(heads, from, to.items[to.count - 1]);
}

/* Stamps ------------------------------------------------------------------------------------- */

static bool any_is_new(const heads_now *heads, mig_ids names)
{
    for (size_t i = 0; i < names.count; i++) {
        if (!is_head(heads, names.items[i]))
            return true;
    }
    return false;
}

static mig_status stamp(heads_now *heads, const mig_step *step)
{
    mig_ids from = step->from, to = step->to;
    const char *wrong = "a stamp between numbers of revisions that do not go together";
    if (!step->is_upgrade && step->branch_move)
        return from.count == 1 ? delete (heads, from.items[0]) : assertion(heads->query, wrong);
    if (step->is_upgrade && (step->branch_move || any_is_new(heads, from)) && any_is_new(heads, to))
        return to.count == 1 ? insert(heads, to.items[0]) : assertion(heads->query, wrong);
    if (from.count > 1 && to.count > 0)
        return merge(heads, from, to.items[0]);
    if (to.count > 1 && from.count > 0)
        return unmerge(heads, from.items[0], to);
    if (from.count != 1 || to.count != 1)
        return assertion(heads->query, wrong);
    return update(heads, from.items[0], to.items[0]);
}

/* Migrations --------------------------------------------------------------------------------- */

static mig_status rank_all(heads_now *heads)
{
    mig_query *query = heads->query;
    const mig_graph *graph = query->graph;
    uint32_t *left = mig_arena_get_array(&query->arena, graph->count, sizeof *left);
    uint32_t *queue = mig_arena_get_array(&query->arena, graph->count, sizeof *queue);
    uint32_t *rank = mig_arena_get_array(&query->arena, graph->count, sizeof *rank);
    if (left == NULL || queue == NULL || rank == NULL)
        return MIG_ENOMEM;
    uint32_t length = 0;
    for (uint32_t i = 0; i < graph->count; i++) {
        rank[i] = 0;
        left[i] = mig_edges_of(&graph->steps_down, i).count;
        if (left[i] == 0)
            queue[length++] = i;
    }
    for (uint32_t i = 0; i < length; i++) {
        mig_span up = mig_edges_of(&graph->steps_up, queue[i]);
        for (uint32_t j = 0; j < up.count; j++) {
            if (rank[up.items[j]] <= rank[queue[i]])
                rank[up.items[j]] = rank[queue[i]] + 1;
            if (--left[up.items[j]] == 0)
                queue[length++] = up.items[j];
        }
    }
    heads->rank = rank;
    return MIG_OK;
}

/*
 * Is `node` at or below a head that is not left out? Those left out rank `limit` at most, so what is
 * covered and ranks as high, without being one of them, is covered by another head.
 */
static mig_status is_implied(heads_now *heads, uint32_t node, uint32_t limit, bool *implied)
{
    mig_query *query = heads->query;
    mig_nodes stack = {NULL, 0, 0};
    *implied = false;
    TRY(mig_nodes_push(query, &stack, node));
    while (stack.count > 0) {
        node = stack.items[--stack.count];
        if (heads->left_out[node] != heads->search &&
            (mig_marked(heads->is_head, node) || heads->rank[node] >= limit)) {
            *implied = true;
            return MIG_OK;
        }
        mig_span up = mig_edges_of(&query->graph->steps_up, node);
        for (uint32_t i = 0; i < up.count; i++) {
            uint32_t above = up.items[i];
            if (heads->cover[above] == 0 || heads->seen[above] == heads->search)
                continue;
            heads->seen[above] = heads->search;
            TRY(mig_nodes_push(query, &stack, above));
        }
    }
    return MIG_OK;
}

/* `down` without what heads other than `except` imply (RevisionStep.merge_branch_idents). */
static mig_status not_implied(heads_now *heads, mig_span down, mig_span except, mig_nodes *left)
{
    mig_query *query = heads->query;
    uint64_t *by_others = NULL;
    uint32_t limit = 0;
    if (heads->other_count > 0) {
        mig_nodes others = {NULL, 0, 0};
        by_others = mig_query_marks(query);
        if (by_others == NULL)
            return MIG_ENOMEM;
        TRY(mig_get_revisions(query, (mig_ids){heads->others, heads->other_count, true}, &others));
        TRY(mig_walk(query, &query->graph->steps_down, (mig_span){others.items, others.count},
                     false, by_others, NULL));
    }
    if (heads->rank == NULL)
        TRY(rank_all(heads));
    for (uint32_t i = 0; i < down.count; i++) {
        heads->search++; /* cannot overflow: fewer than edges, times the steps that fit in memory */
        for (uint32_t j = 0; j < except.count; j++) {
            heads->left_out[except.items[j]] = heads->search;
            if (heads->rank[except.items[j]] > limit)
                limit = heads->rank[except.items[j]];
        }
        bool implied = by_others != NULL && mig_marked(by_others, down.items[i]);
        if (!implied)
            TRY(is_implied(heads, down.items[i], limit, &implied));
        if (!implied)
            TRY(mig_nodes_push(query, left, down.items[i]));
    }
    return MIG_OK;
}

/* RevisionStep._unmerge_to_revisions: `down` without what stays anyway. */
static mig_status unmerge_to(heads_now *heads, uint32_t node, mig_span down, mig_nodes *left)
{
    if (heads->count + heads->other_count > 1)
        return not_implied(heads, down, (mig_span){&node, 1}, left);
    /* the only head: what else covers a down revision is below another one */
    for (uint32_t i = 0; i < down.count; i++) {
        if (heads->cover[down.items[i]] == 1)
            TRY(mig_nodes_push(heads->query, left, down.items[i]));
    }
    return MIG_OK;
}

static mig_status names_of(mig_query *query, const mig_nodes *nodes, mig_ids *ids)
{
    mig_name *names = mig_arena_get_array(&query->arena, nodes->count, sizeof *names);
    if (names == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = 0; i < nodes->count; i++)
        names[i] = query->graph->names[nodes->items[i]];
    *ids = (mig_ids){names, nodes->count, true};
    return MIG_OK;
}

static mig_status migrate(heads_now *heads, const mig_step *step)
{
    mig_query *query = heads->query;
    const mig_graph *graph = query->graph;
    mig_name revision = graph->names[step->node];
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
            TRY(not_implied(heads, down, down, &left));
            if (left.count == 0)
                return assertion(query, "a merge of revisions that other heads imply");
            TRY(names_of(query, &left, &names));
            return merge(heads, names, revision);
        }
    } else if (mig_marked(heads->is_head, step->node)) {
        if (down.count == 0)
            return delete (heads, revision);
        TRY(unmerge_to(heads, step->node, down, &left));
        if (left.count == 0)
            return delete (heads, revision);
        TRY(names_of(query, &left, &names));
        if (down.count > 1)
            return unmerge(heads, revision, names);
    }
    if (down.count == 1)
        present = down.items[0];
    else if (present_count != 1)
        return assertion(query, "Can't do an UPDATE because downrevision is ambiguous");
    return step->is_upgrade ? update(heads, graph->names[present], revision)
                            : update(heads, revision, graph->names[present]);
}

mig_status mig_version_operations(mig_query *query, mig_ids rows, const mig_step *steps,
                                  size_t count, mig_operations *operations)
{
    size_t nodes = query->graph->count;
    heads_now heads = {.query = query, .operations = operations};
    heads.is_head = mig_query_marks(query);
    heads.cover = mig_arena_get_array(&query->arena, nodes, sizeof *heads.cover);
    heads.seen = mig_arena_get_array(&query->arena, nodes, sizeof *heads.seen);
    heads.left_out = mig_arena_get_array(&query->arena, nodes, sizeof *heads.left_out);
    if (heads.is_head == NULL || heads.cover == NULL || heads.seen == NULL ||
        heads.left_out == NULL)
        return MIG_ENOMEM;
    memset(heads.cover, 0, nodes * sizeof *heads.cover);
    memset(heads.seen, 0, nodes * sizeof *heads.seen);
    memset(heads.left_out, 0, nodes * sizeof *heads.left_out);
    for (size_t i = 0; i < rows.count; i++) {
        if (is_head(&heads, rows.items[i]))
            continue;
        TRY(add_head(&heads, rows.items[i]));
        TRY(count_cover(&heads, rows.items[i], true));
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t first = operations->count;
        heads.step = (uint32_t)i;
        TRY(steps[i].is_stamp ? stamp(&heads, &steps[i]) : migrate(&heads, &steps[i]));
        TRY(count_step(&heads, first));
    }
    return MIG_OK;
}

/* Steps of a stamp --------------------------------------------------------------------------- */

/* The heads that a destination may concern, each once. */
static mig_status heads_on_line(mig_query *query, mig_ids destinations, const mig_nodes *heads,
                                mig_nodes *found)
{
    uint64_t *listed = mig_query_marks(query);
    if (listed == NULL)
        return MIG_ENOMEM;
    for (size_t i = 0; i < destinations.count; i++) {
        mig_nodes some = {NULL, 0, 0};
        if (destinations.items[i].length == 0)
            continue;
        TRY(mig_filter_for_lineage(query, (mig_span){heads->items, heads->count},
                                   destinations.items[i], true, &some));
        for (uint32_t j = 0; j < some.count; j++) {
            if (mig_marked(listed, some.items[j]))
                continue;
            mig_mark(listed, some.items[j]);
            TRY(mig_nodes_push(query, found, some.items[j]));
        }
    }
    return MIG_OK;
}

static mig_status meets(mig_query *query, const mig_edges *edges, uint32_t from,
                        const mig_nodes *nodes, bool *met)
{
    uint64_t *marks = mig_query_marks(query);
    if (marks == NULL)
        return MIG_ENOMEM;
    TRY(mig_walk(query, edges, (mig_span){&from, 1}, false, marks, NULL));
    *met = false;
    for (uint32_t i = 0; i < nodes->count; i++)
        *met = *met || mig_marked(marks, nodes->items[i]);
    return MIG_OK;
}

mig_status mig_stamp_steps(mig_query *query, mig_ids destinations, mig_ids rows, mig_step **steps,
                           size_t *count)
{
    const mig_graph *graph = query->graph;
    mig_nodes heads = {NULL, 0, 0}, concerned = {NULL, 0, 0}, targets = {NULL, 0, 0};
    mig_ids names;
    const mig_name base = MIG_NAME("base");
    if (destinations.count == 0 || (!destinations.is_sequence && destinations.items[0].length == 0))
        destinations = (mig_ids){&base, 1, false};
    TRY(mig_get_revisions(query, rows, &heads));
    TRY(heads_on_line(query, destinations, &heads, &concerned));
    TRY(names_of(query, &concerned, &names));
    TRY(mig_get_revisions(query, destinations, &targets));
    if (targets.count == 0)
        TRY(mig_nodes_push(query, &targets, MIG_NODE_NONE));
    *count = 0;
    *steps = mig_arena_get_array(&query->arena, (size_t)targets.count * (names.count + 1),
                                 sizeof **steps);
    if (*steps == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = 0; i < targets.count; i++) {
        uint32_t target = targets.items[i];
        if (target == MIG_NODE_NONE) { /* base: every row goes */
            for (size_t j = 0; j < names.count; j++)
                (*steps)[(*count)++] = (mig_step){.is_stamp = true,
                                                  .branch_move = true,
                                                  .from = {&names.items[j], 1, true},
                                                  .to = {NULL, 0, true}};
            continue;
        }
        if (target == MIG_NODE_BASE)
            return assertion(query, "there is no such revision");
        bool there = false, above, below;
        for (uint32_t j = 0; j < concerned.count; j++)
            there = there || concerned.items[j] == target;
        if (there)
            continue;
        TRY(meets(query, &graph->all_next, target, &concerned, &above));
        TRY(meets(query, &graph->steps_down, target, &concerned, &below));
        if (above && below)
            return assertion(query, "heads both above and below the revision to stamp");
        mig_step step = {.is_stamp = true, .is_upgrade = !above, .branch_move = !above && !below};
        step.from = step.branch_move ? (mig_ids){NULL, 0, true} : names;
        step.to = (mig_ids){&graph->names[target], 1, true};
        (*steps)[(*count)++] = step;
    }
    return MIG_OK;
}
