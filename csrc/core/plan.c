#include "core/plan.h"

#include <string.h>

#define TRY(call)                                                                                  \
    do {                                                                                           \
        mig_status try_status = (call);                                                            \
        if (try_status != MIG_OK)                                                                  \
            return try_status;                                                                     \
    } while (0)

/* The heads while the steps go by: a set that keeps its order. */
typedef struct heads_now {
    mig_query *query;
    mig_operations *operations;
    mig_name *items;
    uint32_t count, capacity;
    uint32_t step;
} heads_now;

static mig_status assertion(mig_query *query, const char *text)
{
    mig_name message = {text, strlen(text)};
    return mig_graph_fail_pieces(query->error, MIG_GRAPH_ASSERTION, &message, 1);
}

static bool is_head(const heads_now *heads, mig_name name)
{
    for (uint32_t i = 0; i < heads->count; i++) {
        if (mig_name_equal(heads->items[i], name))
            return true;
    }
    return false;
}

static mig_status add_head(heads_now *heads, mig_name name)
{
    if (heads->count == heads->capacity) {
        uint32_t capacity = heads->capacity < 8 ? 8 : heads->capacity * 2;
        mig_name *items = mig_arena_get_array(&heads->query->arena, capacity, sizeof *items);
        if (items == NULL)
            return MIG_ENOMEM;
        if (heads->count > 0)
            memcpy(items, heads->items, heads->count * sizeof *items);
        heads->items = items;
        heads->capacity = capacity;
    }
    heads->items[heads->count++] = name;
    return MIG_OK;
}

static mig_status remove_head(heads_now *heads, mig_name name)
{
    for (uint32_t i = 0; i < heads->count; i++) {
        if (mig_name_equal(heads->items[i], name)) {
            memmove(&heads->items[i], &heads->items[i + 1],
                    (heads->count - i - 1) * sizeof *heads->items);
            heads->count--;
            return MIG_OK;
        }
    }
    return mig_graph_fail_names(heads->query->error, MIG_GRAPH_KEY, &name, 1);
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

/* `names` without what the heads other than `except` imply (RevisionStep.merge_branch_idents). */
static mig_status not_implied(heads_now *heads, mig_ids names, mig_ids except, mig_ids *left)
{
    mig_query *query = heads->query;
    const mig_graph *graph = query->graph;
    uint64_t *implied = mig_query_marks(query);
    mig_name *kept = mig_arena_get_array(&query->arena, names.count, sizeof *kept);
    mig_nodes others = {NULL, 0, 0};
    if (implied == NULL || kept == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = 0; i < heads->count; i++) {
        size_t j = 0;
        while (j < except.count && !mig_name_equal(except.items[j], heads->items[i]))
            j++;
        if (j == except.count)
            TRY(mig_get_revisions(query, (mig_ids){&heads->items[i], 1, false}, &others));
    }
    TRY(mig_walk(query, &graph->steps_down, (mig_span){others.items, others.count}, false, implied,
                 NULL));
    size_t count = 0;
    for (size_t i = 0; i < names.count; i++) {
        uint32_t node = mig_graph_lookup(graph, names.items[i]);
        if (!mig_marked(implied, node))
            kept[count++] = names.items[i];
    }
    *left = (mig_ids){kept, count, true};
    return MIG_OK;
}

/* RevisionStep._unmerge_to_revisions: `down` without what stays anyway. */
static mig_status unmerge_to(heads_now *heads, mig_name revision, mig_ids down, mig_ids *left)
{
    mig_query *query = heads->query;
    const mig_graph *graph = query->graph;
    if (heads->count > (is_head(heads, revision) ? 1u : 0u))
        return not_implied(heads, down, (mig_ids){&revision, 1, false}, left);
    /* no other head: what one down revision implies of the others */
    uint64_t *implied = mig_query_marks(query);
    mig_name *kept = mig_arena_get_array(&query->arena, down.count, sizeof *kept);
    if (implied == NULL || kept == NULL)
        return MIG_ENOMEM;
    for (size_t i = 0; i < down.count; i++) {
        mig_span below = mig_edges_of(&graph->steps_down, mig_graph_lookup(graph, down.items[i]));
        TRY(mig_walk(query, &graph->steps_down, below, false, implied, NULL));
    }
    size_t count = 0;
    for (size_t i = 0; i < down.count; i++) {
        if (!mig_marked(implied, mig_graph_lookup(graph, down.items[i])))
            kept[count++] = down.items[i];
    }
    *left = (mig_ids){kept, count, true};
    return MIG_OK;
}

static mig_status migrate(heads_now *heads, const mig_step *step)
{
    mig_query *query = heads->query;
    const mig_graph *graph = query->graph;
    mig_name revision = graph->names[step->node], present = MIG_NO_NAME;
    mig_span span = mig_edges_of(&graph->steps_down, step->node);
    mig_name *names = mig_arena_get_array(&query->arena, span.count, sizeof *names);
    if (names == NULL)
        return MIG_ENOMEM;
    uint32_t present_count = 0;
    for (uint32_t i = 0; i < span.count; i++) {
        names[i] = graph->names[span.items[i]];
        if (is_head(heads, names[i])) {
            present = names[i];
            present_count++;
        }
    }
    mig_ids down = {names, span.count, true}, left;
    if (step->is_upgrade) {
        if (present_count == 0)
            return insert(heads, revision);
        if (present_count > 1) {
            TRY(not_implied(heads, down, down, &left));
            if (left.count == 0)
                return assertion(query, "a merge of revisions that other heads imply");
            return merge(heads, left, revision);
        }
    } else if (is_head(heads, revision)) {
        if (down.count == 0)
            return delete (heads, revision);
        TRY(unmerge_to(heads, revision, down, &left));
        if (left.count == 0)
            return delete (heads, revision);
        if (down.count > 1)
            return unmerge(heads, revision, left);
    }
    if (down.count == 1)
        present = down.items[0];
    else if (present_count != 1)
        return assertion(query, "Can't do an UPDATE because downrevision is ambiguous");
    return step->is_upgrade ? update(heads, present, revision) : update(heads, revision, present);
}

mig_status mig_version_operations(mig_query *query, mig_ids rows, const mig_step *steps,
                                  size_t count, mig_operations *operations)
{
    heads_now heads = {.query = query, .operations = operations};
    for (size_t i = 0; i < rows.count; i++) {
        if (!is_head(&heads, rows.items[i]))
            TRY(add_head(&heads, rows.items[i]));
    }
    for (size_t i = 0; i < count; i++) {
        heads.step = (uint32_t)i;
        TRY(steps[i].is_stamp ? stamp(&heads, &steps[i]) : migrate(&heads, &steps[i]));
    }
    return MIG_OK;
}

/* Steps of a stamp --------------------------------------------------------------------------- */

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
