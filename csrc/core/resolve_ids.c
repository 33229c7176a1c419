/*
 * What a person may type for one revision: ids, prefixes of ids, labels, branches, 'head'. Each
 * function mirrors the method of RevisionMap that its comment names (alembic/script/revision.py,
 * read in 1.20.1).
 */
#include "core/resolve_internal.h"

#include <string.h>

#include "core/graph_inherit.h"
#include "core/graph_walk.h"

static mig_ids one_id(const mig_text *id)
{
    return (mig_ids){id, 1, false};
}

/* is_revision() of every one. */
mig_status mig_resolve_assert_nodes(mig_query *query, mig_span nodes)
{
    for (uint32_t i = 0; i < nodes.count; i++) {
        if (!is_node(nodes.items[i]))
            return mig_query_assert(query, "there is no such revision");
    }
    return MIG_OK;
}

/* `text` split at the first '@': false without one. */
bool mig_resolve_split_branch(mig_text text, mig_text *branch, mig_text *rest)
{
    const char *at = text.length > 0 ? memchr(text.text, '@', text.length) : NULL;
    if (at == NULL)
        return false;
    size_t length = (size_t)(at - text.text);
    *branch = (mig_text){text.text, length};
    *rest = (mig_text){at + 1, text.length - length - 1};
    return true;
}

mig_status mig_resolve_join(mig_query *query, mig_text a, const char *between, mig_text b,
                            mig_text *text)
{
    size_t middle = strlen(between);
    char *copy = mig_arena_get(&query->arena, a.length + middle + b.length + 1);
    if (copy == NULL)
        return MIG_ENOMEM;
    if (a.length > 0)
        memcpy(copy, a.text, a.length);
    memcpy(copy + a.length, between, middle);
    if (b.length > 0)
        memcpy(copy + a.length + middle, b.text, b.length);
    *text = (mig_text){copy, a.length + middle + b.length};
    return MIG_OK;
}

/* Lineage ------------------------------------------------------------------------------------ */

/*
 * _shares_lineage, for all targets at once: a node that has one of `tests` above or below it is
 * itself below or above that one. lineage: all nodes that share a lineage with one of `tests`.
 */
static mig_status mark_lineage(mig_query *query, mig_span tests, bool dependencies,
                               uint64_t **lineage)
{
    const mig_graph *graph = query->graph;
    uint64_t *below = mig_query_marks(query), *above = mig_query_marks(query);
    if (below == NULL || above == NULL)
        return MIG_ENOMEM;
    MIG_TRY(mig_graph_walk(query, dependencies ? &graph->all_down : &graph->down, tests, false,
                           below, NULL));
    MIG_TRY(mig_graph_walk(query, dependencies ? &graph->all_next : &graph->next, tests, false,
                           above, NULL));
    for (size_t i = 0; i < mig_mark_words(graph); i++)
        below[i] |= above[i];
    *lineage = below;
    return MIG_OK;
}

/* _resolve_branch */
mig_status mig_resolve_branch(mig_query *query, mig_text label, uint32_t *found)
{
    *found = mig_graph_lookup(query->graph, label);
    if (*found != MIG_NODE_NONE)
        return MIG_OK;
    mig_status status = mig_resolve_id(query, label, MIG_NO_TEXT, found);
    if (status == MIG_EREVISION && query->error->kind == MIG_GRAPH_RESOLUTION)
        return mig_graph_error_argument(query->error,
                                        MIG_GRAPH_FAIL(query->error, MIG_GRAPH_RESOLUTION,
                                                       MIG_TEXT("No such branch: '"), label,
                                                       MIG_TEXT("'")),
                                        label);
    return status;
}

mig_status mig_lineage_begin(mig_query *query, mig_text against, bool dependencies,
                             lineage_filter *filter)
{
    filter->against = against;
    filter->dependencies = dependencies;
    filter->marks = NULL;
    return mig_resolve_number(query, one_id(&filter->against), &filter->ids, &filter->branch);
}

/* Nothing to compare with: every target passes unseen. */
bool mig_lineage_takes_all(const lineage_filter *filter)
{
    return filter->branch.length == 0 && filter->ids.count == 0;
}

mig_status mig_lineage_has(mig_query *query, lineage_filter *filter, uint32_t target, bool *is)
{
    if (target == MIG_NODE_BASE)
        MIG_TRY(mig_resolve_id(query, MIG_TEXT("base"), MIG_NO_TEXT, &target));
    MIG_TRY(mig_resolve_assert_nodes(query, (mig_span){&target, 1}));
    if (filter->marks == NULL) {
        mig_nodes tests = {NULL, 0, 0};
        uint32_t node;
        if (filter->branch.length > 0) {
            MIG_TRY(mig_resolve_id(query, filter->branch, MIG_NO_TEXT, &node));
            MIG_TRY(mig_nodes_push(query, &tests, node));
        }
        for (size_t i = 0; i < filter->ids.count; i++) {
            MIG_TRY(mig_resolve_id(query, filter->ids.items[i], MIG_NO_TEXT, &node));
            MIG_TRY(mig_nodes_push(query, &tests, node));
        }
        MIG_TRY(mark_lineage(query, mig_nodes_span(&tests), filter->dependencies, &filter->marks));
    }
    *is = mig_marked(filter->marks, target);
    return MIG_OK;
}

mig_status mig_lineage_filter(mig_query *query, lineage_filter *filter, mig_span targets,
                              mig_nodes *found)
{
    for (uint32_t i = 0; i < targets.count; i++) {
        bool is = true;
        if (!mig_lineage_takes_all(filter))
            MIG_TRY(mig_lineage_has(query, filter, targets.items[i], &is));
        if (is)
            MIG_TRY(mig_nodes_push(query, found, targets.items[i]));
    }
    return MIG_OK;
}

mig_status mig_filter_for_lineage(mig_query *query, mig_span targets, mig_text against,
                                  bool include_dependencies, mig_nodes *found)
{
    lineage_filter filter;
    MIG_TRY(mig_lineage_begin(query, against, include_dependencies, &filter));
    return mig_lineage_filter(query, &filter, targets, found);
}

/* Identifiers -------------------------------------------------------------------------------- */

/* The keys that begin with `prefix` and have more than three characters, as nodes, and their texts.
 */
static mig_status partial_matches(mig_query *query, mig_text prefix, mig_nodes *nodes,
                                  mig_nodes *keys)
{
    const mig_graph *graph = query->graph;
    for (uint32_t i = 0; i < graph->key_count; i++) {
        mig_text key = graph->keys[i];
        if (key.length < prefix.length || memcmp(key.text, prefix.text, prefix.length) != 0 ||
            mig_text_characters(key) <= 3)
            continue;
        MIG_TRY(mig_nodes_push(query, nodes, graph->key_node[i]));
        MIG_TRY(mig_nodes_push(query, keys, i));
    }
    return MIG_OK;
}

static mig_status no_such_revision(mig_query *query, mig_text id)
{
    mig_text hint = MIG_TEXT("; please ensure at least four characters are present for partial "
                             "revision identifier matches");
    if (mig_text_characters(id) >= 4)
        hint.length = 0;
    return mig_graph_error_argument(query->error,
                                    MIG_GRAPH_FAIL(query->error, MIG_GRAPH_RESOLUTION,
                                                   MIG_TEXT("No such revision or branch '"), id,
                                                   MIG_TEXT("'"), hint),
                                    id);
}

static mig_status many_revisions(mig_query *query, mig_text id, const mig_nodes *keys)
{
    const mig_text *names = query->graph->keys;
    mig_text none = {"", 0}, third = none, before_third = none;
    if (keys->count > 2) {
        third = names[keys->items[2]];
        before_third = MIG_TEXT("', '");
    }
    return mig_graph_error_argument(query->error,
                                    MIG_GRAPH_FAIL(query->error, MIG_GRAPH_RESOLUTION,
                                                   MIG_TEXT("Multiple revisions start with '"), id,
                                                   MIG_TEXT("': '"), names[keys->items[0]],
                                                   MIG_TEXT("', '"), names[keys->items[1]],
                                                   before_third, third, MIG_TEXT("'...")),
                                    id);
}

/* The nodes that share a lineage with `branch`; NULL where there is nothing to check. */
static mig_status branch_lineage(mig_query *query, mig_text branch, uint64_t **marks)
{
    uint32_t node;
    *marks = NULL;
    if (branch.length == 0)
        return MIG_OK;
    MIG_TRY(mig_resolve_branch(query, branch, &node));
    return node == MIG_NODE_NONE ? MIG_OK : mark_lineage(query, (mig_span){&node, 1}, false, marks);
}

/* _revision_for_ident, with what branch_lineage found of `branch`. */
static mig_status revision_on_branch(mig_query *query, mig_text id, mig_text branch,
                                     const uint64_t *marks, uint32_t *found)
{
    const mig_graph *graph = query->graph;
    *found = mig_graph_lookup(graph, id);
    if (*found == MIG_NODE_NONE) {
        if (id.length == 0)
            return mig_query_assert(query, "an empty revision identifier");
        mig_nodes nodes = {NULL, 0, 0}, keys = {NULL, 0, 0};
        MIG_TRY(partial_matches(query, id, &nodes, &keys));
        uint32_t kept = 0;
        for (uint32_t i = 0; i < nodes.count; i++) {
            if (marks == NULL || mig_marked(marks, nodes.items[i])) {
                nodes.items[kept] = nodes.items[i];
                keys.items[kept++] = keys.items[i];
            }
        }
        nodes.count = keys.count = kept;
        if (nodes.count == 0)
            return no_such_revision(query, id);
        if (nodes.count > 1)
            return many_revisions(query, id, &keys);
        *found = nodes.items[0];
    }
    if (marks != NULL && !mig_marked(marks, *found))
        return mig_graph_error_argument(query->error,
                                        MIG_GRAPH_FAIL(query->error, MIG_GRAPH_RESOLUTION,
                                                       MIG_TEXT("Revision "), graph->names[*found],
                                                       MIG_TEXT(" is not a member of branch '"),
                                                       branch, MIG_TEXT("'")),
                                        id);
    return MIG_OK;
}

/* _revision_for_ident; `id` without text is Python's None or (). */
mig_status mig_resolve_id(mig_query *query, mig_text id, mig_text branch, uint32_t *found)
{
    uint64_t *marks;
    MIG_TRY(branch_lineage(query, branch, &marks));
    *found = MIG_NODE_NONE;
    return id.text == NULL ? MIG_OK : revision_on_branch(query, id, branch, marks, found);
}

/* get_current_head */
static mig_status current_head(mig_query *query, mig_text branch, mig_nodes *head)
{
    const mig_graph *graph = query->graph;
    if (branch.length > 0) {
        MIG_TRY(mig_filter_for_lineage(query, graph->heads, branch, false, head));
    } else {
        for (uint32_t i = 0; i < graph->heads.count; i++)
            MIG_TRY(mig_nodes_push(query, head, graph->heads.items[i]));
    }
    if (head->count < 2)
        return MIG_OK;
    mig_ids names;
    mig_text argument = MIG_TEXT("head");
    MIG_TRY(mig_query_names(query, mig_nodes_span(head), &names));
    if (branch.length > 0)
        MIG_TRY(mig_resolve_join(query, branch, "@", argument, &argument));
    return mig_graph_error_argument(
        query->error,
        mig_graph_fail_names(query->error, MIG_GRAPH_MULTIPLE_HEADS, names.items, names.count),
        argument);
}

/* What begins with a symbol may be a branch of that name: Alembic takes it for one, then the other.
 */
mig_status mig_resolve_check_branch(mig_query *query, mig_text branch)
{
    if (!mig_is_symbol(branch))
        return MIG_OK;
    return MIG_GRAPH_FAIL(query->error, MIG_GRAPH_DECLINED, MIG_TEXT("a symbol as a branch"));
}

mig_status mig_resolve_number(mig_query *query, mig_ids id, mig_ids *resolved, mig_text *branch)
{
    const mig_graph *graph = query->graph;
    mig_nodes nodes = {NULL, 0, 0};
    mig_text text = id.count == 1 ? id.items[0] : MIG_NO_TEXT;
    *branch = MIG_NO_TEXT;
    *resolved = id;
    if (id.is_sequence)
        return MIG_OK;
    if (mig_resolve_split_branch(text, branch, &text)) {
        MIG_TRY(mig_resolve_check_branch(query, *branch));
        mig_text *copy = mig_arena_get(&query->arena, sizeof *copy);
        if (copy == NULL)
            return MIG_ENOMEM;
        *copy = text;
        *resolved = (mig_ids){copy, 1, false};
    }
    if (mig_text_is(text, "heads")) {
        if (branch->length == 0)
            return mig_query_names(query, graph->real_heads, resolved);
        MIG_TRY(mig_filter_for_lineage(query, graph->heads, *branch, false, &nodes));
        return mig_query_names(query, mig_nodes_span(&nodes), resolved);
    }
    if (mig_text_is(text, "head")) {
        MIG_TRY(current_head(query, *branch, &nodes));
        return mig_query_names(query, mig_nodes_span(&nodes), resolved);
    }
    if (text.text == NULL || mig_text_is(text, "base"))
        resolved->count = 0;
    return MIG_OK;
}

mig_status mig_get_revision(mig_query *query, mig_text id, uint32_t *found)
{
    mig_ids resolved;
    mig_text branch;
    MIG_TRY(mig_resolve_number(query, one_id(&id), &resolved, &branch));
    if (resolved.count > 1)
        return mig_graph_error_argument(query->error,
                                        mig_graph_fail_names(query->error, MIG_GRAPH_MULTIPLE_HEADS,
                                                             resolved.items, resolved.count),
                                        id);
    return mig_resolve_id(query, resolved.count == 1 ? resolved.items[0] : MIG_NO_TEXT, branch,
                          found);
}

/* A negative whole number, as int() reads it: spaces around it, single underscores between digits.
 */
static bool negative_number(mig_text text, uint32_t *steps)
{
    size_t at = 0, end = text.length;
    while (at < end && mig_is_python_space(text.text[at]))
        at++;
    while (end > at && mig_is_python_space(text.text[end - 1]))
        end--;
    if (end - at < 2 || text.text[at] != '-' || !mig_is_digit(text.text[end - 1]))
        return false;
    *steps = 0;
    for (at++; at < end; at++) {
        char c = text.text[at];
        if (c == '_' && mig_is_digit(text.text[at - 1]) && mig_is_digit(text.text[at + 1]))
            continue;
        if (!mig_is_digit(c))
            return false;
        *steps = add_digit(*steps, c);
    }
    return *steps > 0;
}

mig_status mig_resolve_fail(mig_query *query, const char *text)
{
    mig_text message = {text, strlen(text)};
    return mig_graph_fail_pieces(query->error, MIG_GRAPH_REVISION, &message, 1);
}

/* _walk */
mig_status mig_resolve_walk(mig_query *query, uint32_t start, bool up, uint32_t steps,
                            mig_text branch, bool no_overwalk, uint32_t *found)
{
    const mig_graph *graph = query->graph;
    uint32_t node = start;
    lineage_filter filter;
    bool filters = up && branch.length > 0 && steps > 0 && start != MIG_NODE_BASE;
    if (filters)
        MIG_TRY(mig_lineage_begin(query, branch, false, &filter));
    for (uint32_t i = 0; i < steps; i++) {
        mig_nodes filtered = {NULL, 0, 0};
        mig_span children;
        uint32_t base = MIG_NODE_BASE;
        if (up) {
            if (node == MIG_NODE_BASE)
                return mig_query_assert(query, "there is no way up from 'base'");
            children = node == MIG_NODE_NONE ? graph->bases : mig_edges_of(&graph->next, node);
            if (filters) {
                MIG_TRY(mig_lineage_filter(query, &filter, children, &filtered));
                children = mig_nodes_span(&filtered);
            }
        } else if (node == MIG_NODE_BASE) {
            children = (mig_span){NULL, 0};
        } else {
            children = node == MIG_NODE_NONE ? graph->heads : mig_edges_of(&graph->down, node);
            if (children.count == 0)
                children = (mig_span){&base, 1};
        }
        if (children.count == 0) {
            *found = no_overwalk ? MIG_NODE_NONE : node;
            return MIG_OK;
        }
        if (children.count > 1)
            return mig_resolve_fail(query, "Ambiguous walk");
        node = children.items[0];
    }
    *found = node;
    return MIG_OK;
}

static mig_status get_one_id(mig_query *query, mig_text id, mig_nodes *found)
{
    const mig_graph *graph = query->graph;
    mig_ids resolved;
    mig_text branch;
    uint32_t steps;
    MIG_TRY(mig_resolve_number(query, one_id(&id), &resolved, &branch));
    if (resolved.count == 1 && negative_number(resolved.items[0], &steps)) {
        /* branch@-n: down from the heads */
        uint32_t label = mig_graph_label(graph, branch);
        uint64_t *marks = NULL;
        if (label != MIG_NODE_NONE)
            MIG_TRY(mig_graph_with_label(query, label, &marks));
        for (uint32_t i = 0; i < graph->real_heads.count; i++) {
            uint32_t head = graph->real_heads.items[i], node;
            if (branch.text != NULL && (marks == NULL || !mig_marked(marks, head)))
                continue;
            MIG_TRY(mig_resolve_walk(query, head, false, steps, MIG_NO_TEXT, true, &node));
            MIG_TRY(mig_nodes_push(query, found, node));
        }
        return MIG_OK;
    }
    uint64_t *marks = NULL;
    if (resolved.count > 0)
        MIG_TRY(branch_lineage(query, branch, &marks));
    for (size_t i = 0; i < resolved.count; i++) {
        uint32_t node;
        MIG_TRY(revision_on_branch(query, resolved.items[i], branch, marks, &node));
        MIG_TRY(mig_nodes_push(query, found, node));
    }
    return MIG_OK;
}

mig_status mig_get_revisions(mig_query *query, mig_ids id, mig_nodes *found)
{
    for (size_t i = 0; i < id.count; i++)
        MIG_TRY(get_one_id(query, id.items[i], found));
    return MIG_OK;
}
