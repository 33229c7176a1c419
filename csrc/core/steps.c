#include "core/steps.h"

#include <string.h>

/* Places ------------------------------------------------------------------------------------- */

/* A set of numbers that knows the next one: bits, and for each 64 of them a bit a level higher. */
enum { MOST_LEVELS = 6 };

typedef struct mig_places {
    uint64_t *levels[MOST_LEVELS];
    size_t size[MOST_LEVELS]; /* in bits */
    int count;
} mig_places;

static mig_status new_places(mig_query *query, size_t count, mig_places *places)
{
    do {
        if (places->count == MOST_LEVELS)
            return MIG_ENOMEM;
        places->size[places->count] = count;
        count = (count + 63) / 64;
        uint64_t *words = mig_arena_get_array(&query->arena, count, sizeof *words);
        if (words == NULL)
            return MIG_ENOMEM;
        memset(words, 0, count * sizeof *words);
        places->levels[places->count++] = words;
    } while (count > 1);
    return MIG_OK;
}

static void put_place(mig_places *places, uint32_t place, bool is_there)
{
    for (int level = 0; level < places->count; level++, place /= 64) {
        uint64_t *word = &places->levels[level][place / 64], bit = (uint64_t)1 << (place % 64);
        bool was_empty = *word == 0;
        *word = is_there ? *word | bit : *word & ~bit;
        if (is_there ? !was_empty : *word != 0)
            return;
    }
}

static uint32_t lowest_bit(uint64_t word)
{
    uint32_t bit = 0;
    for (uint32_t half = 32; half > 0; half /= 2) {
        if ((word & (((uint64_t)1 << half) - 1)) == 0) {
            word >>= half;
            bit += half;
        }
    }
    return bit;
}

/* The first place from `place` on and before `end`, or `end`. */
static uint32_t next_place(const mig_places *places, uint32_t place, uint32_t end)
{
    uint32_t at = place;
    for (int level = 0; level < places->count && at < places->size[level]; level++) {
        uint64_t word = places->levels[level][at / 64] >> (at % 64);
        if (word == 0) {
            at = at / 64 + 1;
            continue;
        }
        at += lowest_bit(word);
        while (level-- > 0)
            at = at * 64 + lowest_bit(places->levels[level][at]);
        return at < end ? at : end;
    }
    return end;
}

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
    mig_lines lines;    /* laid when a question needs them */
    mig_places there;   /* leaves: of heads, and of edges that come from what is covered */
    uint32_t *seen;     /* node: the last search that came by */
    uint32_t *left_out; /* node: the last round of searches that did not count it as a head */
    uint32_t search, round;
    mig_nodes stack;  /* empty between two uses */
    mig_nodes listed; /* the revisions in is_head */
    uint32_t *place;  /* node: where it is listed */
    mig_name *others; /* rows that are no revision's id */
    uint32_t other_count, other_capacity;
    uint32_t step;
} heads_now;

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

static bool are_lines_laid(const heads_now *heads)
{
    return heads->there.count > 0;
}

static void put_head(heads_now *heads, uint32_t node, bool is_head)
{
    if (are_lines_laid(heads))
        put_place(&heads->there, heads->lines.begin[node], is_head);
}

/* `node` is covered from now on, or no longer. */
static void put_edges(heads_now *heads, uint32_t node, bool is_covered)
{
    const mig_edges *down = &heads->query->graph->steps_down;
    if (!are_lines_laid(heads))
        return;
    for (uint32_t e = down->start[node]; e < down->start[node + 1]; e++) {
        if (heads->lines.edge_leaf[e] != MIG_NODE_NONE)
            put_place(&heads->there, heads->lines.edge_leaf[e], is_covered);
    }
}

static mig_status lay_lines(heads_now *heads)
{
    MIG_TRY(mig_lay_lines(heads->query, &heads->lines));
    MIG_TRY(new_places(heads->query, heads->lines.leaf_count, &heads->there));
    for (uint32_t i = 0; i < heads->query->graph->count; i++) {
        if (mig_marked(heads->is_head, i))
            put_head(heads, i, true);
        if (heads->cover[i] > 0)
            put_edges(heads, i, true);
    }
    return MIG_OK;
}

static mig_status add_head(heads_now *heads, mig_name name)
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

/* A row comes or goes: count that, and below it whatever is newly covered or no longer. */
static mig_status count_cover(heads_now *heads, mig_name name, bool comes)
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

/* After a step: what came first, or all below a row that moves would go and come back. */
static mig_status count_step(heads_now *heads, uint32_t first)
{
    const mig_operations *operations = heads->operations;
    for (uint32_t i = first; i < operations->count; i++) {
        if (operations->items[i].kind != MIG_VERSION_DELETE)
            MIG_TRY(count_cover(heads, operations->items[i].to, true));
    }
    for (uint32_t i = first; i < operations->count; i++) {
        if (operations->items[i].kind != MIG_VERSION_INSERT)
            MIG_TRY(count_cover(heads, operations->items[i].from, false));
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
        return mig_query_assert(heads->query, "a revision to be inserted is in the version table");
    MIG_TRY(add_head(heads, version));
    return add_operation(heads, MIG_VERSION_INSERT, MIG_NO_NAME, version);
}

static mig_status delete(heads_now *heads, mig_name version)
{
    MIG_TRY(remove_head(heads, version));
    return add_operation(heads, MIG_VERSION_DELETE, version, MIG_NO_NAME);
}

static mig_status update(heads_now *heads, mig_name from, mig_name to)
{
    if (is_head(heads, to))
        return mig_query_assert(heads->query,
                                "a revision to be updated to is in the version table");
    MIG_TRY(remove_head(heads, from));
    MIG_TRY(add_head(heads, to));
    return add_operation(heads, MIG_VERSION_UPDATE, from, to);
}

/* A merge: all but the last of `from` go, that one becomes `to`. */
static mig_status merge(heads_now *heads, mig_ids from, mig_name to)
{
    for (size_t i = 0; i + 1 < from.count; i++)
        MIG_TRY(delete(heads, from.items[i]));
    return update(heads, from.items[from.count - 1], to);
}

/* Its undoing: all but the last of `to` come, that one is what `from` becomes. */
static mig_status unmerge(heads_now *heads, mig_name from, mig_ids to)
{
    for (size_t i = 0; i + 1 < to.count; i++)
        MIG_TRY(insert(heads, to.items[i]));
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
 * Is `node` at or below a head that is not left out? Those left out rank `limit` at most, so what
 * is covered and ranks as high, without being one of them, is covered by another head.
 */
static mig_status is_implied(heads_now *heads, uint32_t node, uint32_t limit, bool *implied)
{
    const mig_lines *lines = &heads->lines;
    mig_nodes *stack = &heads->stack;
    *implied = false;
    heads->search++; /* cannot overflow: fewer than edges of the steps */
    heads->seen[node] = heads->search;
    MIG_TRY(mig_nodes_push(heads->query, stack, node));
    while (stack->count > 0 && !*implied) {
        node = stack->items[--stack->count];
        uint32_t end = lines->end[node];
        for (uint32_t leaf = next_place(&heads->there, lines->begin[node], end);
             leaf < end && !*implied; leaf = next_place(&heads->there, leaf + 1, end)) {
            uint32_t above = lines->from[leaf];
            bool is_head = leaf == lines->begin[above];
            heads->query->work++;
            *implied =
                heads->left_out[above] != heads->round && (is_head || lines->rank[above] >= limit);
            if (is_head || heads->seen[above] == heads->search)
                continue;
            heads->seen[above] = heads->search;
            MIG_TRY(mig_nodes_push(heads->query, stack, above));
        }
    }
    stack->count = 0;
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
        MIG_TRY(
            mig_get_revisions(query, (mig_ids){heads->others, heads->other_count, true}, &others));
        MIG_TRY(mig_walk(query, &query->graph->steps_down, (mig_span){others.items, others.count},
                         false, by_others, NULL));
    }
    if (!are_lines_laid(heads))
        MIG_TRY(lay_lines(heads));
    heads->round++;
    for (uint32_t i = 0; i < except.count; i++) {
        heads->left_out[except.items[i]] = heads->round;
        if (heads->lines.rank[except.items[i]] > limit)
            limit = heads->lines.rank[except.items[i]];
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

/* RevisionStep._unmerge_to_revisions: `down` without what stays anyway. */
static mig_status unmerge_to(heads_now *heads, uint32_t node, mig_span down, mig_nodes *left)
{
    if (heads->other_count > 0 || (heads->listed.count > 1 && down.count > 1))
        return not_implied(heads, down, (mig_span){&node, 1}, left);
    /* What else covers the only revision below is not below `node`; where `node` is the only head,
       what else covers one revision below is itself below another. */
    for (uint32_t i = 0; i < down.count; i++) {
        if (heads->cover[node] == 1 && heads->cover[down.items[i]] == 1)
            MIG_TRY(mig_nodes_push(heads->query, left, down.items[i]));
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
            MIG_TRY(not_implied(heads, down, down, &left));
            if (left.count == 0)
                return mig_query_assert(query, "a merge of revisions that other heads imply");
            MIG_TRY(names_of(query, &left, &names));
            return merge(heads, names, revision);
        }
    } else if (mig_marked(heads->is_head, step->node)) {
        if (down.count == 0)
            return delete(heads, revision);
        MIG_TRY(unmerge_to(heads, step->node, down, &left));
        if (left.count == 0)
            return delete(heads, revision);
        MIG_TRY(names_of(query, &left, &names));
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

static mig_status begin_run(heads_now *heads, mig_query *query)
{
    size_t nodes = query->graph->count;
    *heads = (heads_now){.query = query};
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

/* What is in the table is `rows`, whatever it was before: what comes is counted first, see
 * count_step. */
static mig_status move_to(heads_now *heads, mig_ids rows)
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

static mig_status run_step(heads_now *heads, const mig_step *step)
{
    uint32_t first = heads->operations->count;
    MIG_TRY(step->is_stamp ? stamp(heads, step) : migrate(heads, step));
    return count_step(heads, first);
}

mig_status mig_version_operations(mig_query *query, mig_ids rows, const mig_step *steps,
                                  size_t count, mig_operations *operations)
{
    heads_now heads;
    MIG_TRY(begin_run(&heads, query));
    heads.operations = operations;
    MIG_TRY(move_to(&heads, rows));
    for (size_t i = 0; i < count; i++) {
        heads.step = (uint32_t)i;
        MIG_TRY(run_step(&heads, &steps[i]));
    }
    return MIG_OK;
}

struct mig_version_rows {
    mig_query query;
    heads_now heads;
    bool is_kept;   /* `heads` is what the table held after the last step */
    uint32_t steps; /* since it was begun: the arena grows with them */
};

mig_version_rows *mig_version_rows_new(const mig_graph *graph)
{
    mig_version_rows *rows = mig_alloc_array(graph->alloc, 1, sizeof *rows);
    if (rows != NULL)
        mig_query_init(&rows->query, graph, NULL);
    return rows;
}

void mig_version_rows_free(mig_version_rows *rows)
{
    if (rows == NULL)
        return;
    const mig_alloc *alloc = rows->query.graph->alloc;
    mig_query_release(&rows->query);
    alloc->release(alloc->ctx, rows);
}

mig_status mig_version_rows_step(mig_version_rows *rows, mig_ids heads, const mig_step *step,
                                 mig_operations *operations, mig_graph_error *error)
{
    const mig_graph *graph = rows->query.graph;
    bool is_kept = rows->is_kept && rows->steps++ <= graph->count;
    bool keep = true; /* not what is borrowed from the caller */
    for (size_t i = 0; i < heads.count; i++)
        keep = keep && node_of(graph, heads.items[i]) != MIG_NODE_NONE;
    rows->query.error = error;
    rows->is_kept = false;
    if (!is_kept || !keep) {
        mig_query_release(&rows->query);
        rows->steps = 0;
        MIG_TRY(begin_run(&rows->heads, &rows->query));
    }
    rows->heads.operations = operations;
    MIG_TRY(move_to(&rows->heads, heads));
    MIG_TRY(run_step(&rows->heads, step));
    rows->is_kept = keep;
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
        MIG_TRY(mig_filter_for_lineage(query, (mig_span){heads->items, heads->count},
                                       destinations.items[i], true, &some));
        for (uint32_t j = 0; j < some.count; j++) {
            if (some.items[j] < query->graph->count) {
                if (mig_marked(listed, some.items[j]))
                    continue;
                mig_mark(listed, some.items[j]);
            }
            MIG_TRY(mig_nodes_push(query, found, some.items[j]));
        }
    }
    return MIG_OK;
}

/* The names of the heads that a stamp starts from. */
static mig_status head_names(mig_query *query, const mig_nodes *heads, mig_ids *names)
{
    for (uint32_t i = 0; i < heads->count; i++) {
        if (heads->items[i] >= query->graph->count)
            return mig_query_assert(query, "a row is no revision");
    }
    return names_of(query, heads, names);
}

mig_status mig_stamp_steps(mig_query *query, mig_ids destinations, mig_ids rows, mig_step **steps,
                           size_t *count)
{
    const mig_graph *graph = query->graph;
    mig_nodes heads = {NULL, 0, 0}, concerned = {NULL, 0, 0}, targets = {NULL, 0, 0};
    const mig_name base = MIG_NAME("base");
    if (destinations.count == 0 || (!destinations.is_sequence && destinations.items[0].length == 0))
        destinations = (mig_ids){&base, 1, false};
    MIG_TRY(mig_get_revisions(query, rows, &heads));
    MIG_TRY(heads_on_line(query, destinations, &heads, &concerned));
    MIG_TRY(mig_get_revisions(query, destinations, &targets));
    if (targets.count == 0)
        MIG_TRY(mig_nodes_push(query, &targets, MIG_NODE_NONE));
    *count = 0;
    *steps = mig_arena_get_array(&query->arena, (size_t)targets.count * (concerned.count + 1),
                                 sizeof **steps);
    mig_nodes nodes = {NULL, 0, 0};
    uint64_t *is_there = mig_query_marks(query);
    uint64_t *below = mig_query_marks(query), *above = mig_query_marks(query);
    if (*steps == NULL || is_there == NULL || below == NULL || above == NULL)
        return MIG_ENOMEM;
    bool base_is_there = false;
    for (uint32_t i = 0; i < concerned.count; i++) {
        base_is_there = base_is_there || concerned.items[i] == MIG_NODE_BASE;
        if (concerned.items[i] >= graph->count)
            continue;
        mig_mark(is_there, concerned.items[i]);
        MIG_TRY(mig_nodes_push(query, &nodes, concerned.items[i]));
    }
    mig_span starts = {nodes.items, nodes.count};
    MIG_TRY(mig_walk(query, &graph->all_down, starts, false, below, NULL));
    MIG_TRY(mig_walk(query, &graph->steps_up, starts, false, above, NULL));
    for (uint32_t i = 0; i < targets.count; i++) {
        uint32_t target = targets.items[i];
        mig_ids names;
        if (target == MIG_NODE_NONE) { /* base: every row goes */
            MIG_TRY(head_names(query, &concerned, &names));
            for (size_t j = 0; j < names.count; j++)
                (*steps)[(*count)++] = (mig_step){.is_stamp = true,
                                                  .branch_move = true,
                                                  .from = {&names.items[j], 1, true},
                                                  .to = {NULL, 0, true}};
            continue;
        }
        if (target == MIG_NODE_BASE && !base_is_there)
            return mig_query_assert(query, "there is no such revision");
        if (target == MIG_NODE_BASE || mig_marked(is_there, target))
            continue;
        bool down = mig_marked(below, target), up = mig_marked(above, target);
        if (down && up)
            return mig_query_assert(query, "heads both above and below the revision to stamp");
        mig_step step = {.is_stamp = true, .is_upgrade = !down, .branch_move = !down && !up};
        if (step.branch_move)
            step.from = (mig_ids){NULL, 0, true};
        else
            MIG_TRY(head_names(query, &concerned, &step.from));
        step.to = (mig_ids){&graph->names[target], 1, true};
        (*steps)[(*count)++] = step;
    }
    return MIG_OK;
}
