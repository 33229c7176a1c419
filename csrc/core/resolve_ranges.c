/*
 * What a person may type for a revision, and the ranges between two of those. Each function mirrors
 * the method of RevisionMap that its comment names (alembic/script/revision.py, read in 1.20.1).
 */
#include "core/graph.h"

#include <string.h>

static mig_span span_of(const mig_nodes *nodes)
{
    return (mig_span){nodes->items, nodes->count};
}

static mig_ids one_id(const mig_name *id)
{
    return (mig_ids){id, 1, false};
}

/* Python's None, not a sequence that holds it. */
static bool is_none(mig_ids ids)
{
    return !ids.is_sequence && ids.count == 1 && ids.items[0].text == NULL;
}

static bool is_node(uint32_t node)
{
    return node < MIG_NODE_BASE;
}

/* is_revision() of every one. */
static mig_status assert_revisions(mig_query *query, mig_span nodes)
{
    for (uint32_t i = 0; i < nodes.count; i++) {
        if (!is_node(nodes.items[i]))
            return mig_query_assert(query, "there is no such revision");
    }
    return MIG_OK;
}

static mig_status names_of(mig_query *query, mig_span nodes, mig_ids *ids)
{
    mig_name *names = mig_arena_get_array(&query->arena, nodes.count, sizeof *names);
    if (names == NULL)
        return MIG_ENOMEM;
    for (uint32_t i = 0; i < nodes.count; i++)
        names[i] = query->graph->names[nodes.items[i]];
    *ids = (mig_ids){names, nodes.count, true};
    return MIG_OK;
}

/* `text` split at the first '@': false without one. */
static bool split_branch(mig_name text, mig_name *branch, mig_name *rest)
{
    const char *at = text.length > 0 ? memchr(text.text, '@', text.length) : NULL;
    if (at == NULL)
        return false;
    size_t length = (size_t)(at - text.text);
    *branch = (mig_name){text.text, length};
    *rest = (mig_name){at + 1, text.length - length - 1};
    return true;
}

static mig_status joined(mig_query *query, mig_name a, const char *between, mig_name b,
                         mig_name *text)
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
    *text = (mig_name){copy, a.length + middle + b.length};
    return MIG_OK;
}

/* Lineage ------------------------------------------------------------------------------------ */

static mig_status revision_for_ident(mig_query *query, mig_name id, mig_name branch,
                                     uint32_t *found);

/*
 * _shares_lineage, for all targets at once: who has one of `tests` above or below it is itself
 * below or above that one. marks: all nodes on a line with a test.
 */
static mig_status mark_lineage(mig_query *query, mig_span tests, bool dependencies,
                               uint64_t **lineage)
{
    const mig_graph *graph = query->graph;
    uint64_t *below = mig_query_marks(query), *above = mig_query_marks(query);
    if (below == NULL || above == NULL)
        return MIG_ENOMEM;
    MIG_TRY(
        mig_walk(query, dependencies ? &graph->all_down : &graph->down, tests, false, below, NULL));
    MIG_TRY(
        mig_walk(query, dependencies ? &graph->all_next : &graph->next, tests, false, above, NULL));
    for (size_t i = 0; i < ((size_t)graph->count + 63) / 64; i++)
        below[i] |= above[i];
    *lineage = below;
    return MIG_OK;
}

/* _resolve_branch */
static mig_status resolve_branch(mig_query *query, mig_name label, uint32_t *found)
{
    *found = mig_graph_lookup(query->graph, label);
    if (*found != MIG_NODE_NONE)
        return MIG_OK;
    mig_status status = revision_for_ident(query, label, MIG_NO_NAME, found);
    if (status == MIG_EREVISION && query->error->kind == MIG_GRAPH_RESOLUTION)
        return mig_graph_error_argument(query->error,
                                        MIG_GRAPH_FAIL(query->error, MIG_GRAPH_RESOLUTION,
                                                       MIG_NAME("No such branch: '"), label,
                                                       MIG_NAME("'")),
                                        label);
    return status;
}

/*
 * filter_for_lineage, a target at a time. What it is about is looked up when the first target asks,
 * as in Alembic, where the order of errors follows from that.
 */
typedef struct lineage_filter {
    mig_name against; /* `ids` may borrow it */
    mig_ids ids;
    mig_name branch;
    bool dependencies;
    uint64_t *marks; /* NULL: not looked up yet */
} lineage_filter;

static mig_status begin_lineage(mig_query *query, mig_name against, bool dependencies,
                                lineage_filter *line)
{
    line->against = against;
    line->dependencies = dependencies;
    line->marks = NULL;
    return mig_resolve_number(query, one_id(&line->against), &line->ids, &line->branch);
}

/* Nothing to compare with: every target passes unseen. */
static bool takes_all(const lineage_filter *line)
{
    return line->branch.length == 0 && line->ids.count == 0;
}

static mig_status is_on_line(mig_query *query, lineage_filter *line, uint32_t target, bool *is)
{
    if (target == MIG_NODE_BASE)
        MIG_TRY(revision_for_ident(query, MIG_NAME("base"), MIG_NO_NAME, &target));
    MIG_TRY(assert_revisions(query, (mig_span){&target, 1}));
    if (line->marks == NULL) {
        mig_nodes tests = {NULL, 0, 0};
        uint32_t node;
        if (line->branch.length > 0) {
            MIG_TRY(revision_for_ident(query, line->branch, MIG_NO_NAME, &node));
            MIG_TRY(mig_nodes_push(query, &tests, node));
        }
        for (size_t i = 0; i < line->ids.count; i++) {
            MIG_TRY(revision_for_ident(query, line->ids.items[i], MIG_NO_NAME, &node));
            MIG_TRY(mig_nodes_push(query, &tests, node));
        }
        MIG_TRY(mark_lineage(query, span_of(&tests), line->dependencies, &line->marks));
    }
    *is = mig_marked(line->marks, target);
    return MIG_OK;
}

static mig_status filter(mig_query *query, lineage_filter *line, mig_span targets, mig_nodes *found)
{
    for (uint32_t i = 0; i < targets.count; i++) {
        bool is = true;
        if (!takes_all(line))
            MIG_TRY(is_on_line(query, line, targets.items[i], &is));
        if (is)
            MIG_TRY(mig_nodes_push(query, found, targets.items[i]));
    }
    return MIG_OK;
}

mig_status mig_filter_for_lineage(mig_query *query, mig_span targets, mig_name against,
                                  bool include_dependencies, mig_nodes *found)
{
    lineage_filter line;
    MIG_TRY(begin_lineage(query, against, include_dependencies, &line));
    return filter(query, &line, targets, found);
}

/* Identifiers -------------------------------------------------------------------------------- */

/* The keys that begin with `prefix` and have more than three characters, as nodes, and their texts.
 */
static mig_status partial_matches(mig_query *query, mig_name prefix, mig_nodes *nodes,
                                  mig_nodes *keys)
{
    const mig_graph *graph = query->graph;
    for (uint32_t i = 0; i < graph->key_count; i++) {
        mig_name key = graph->keys[i];
        if (key.length < prefix.length || memcmp(key.text, prefix.text, prefix.length) != 0 ||
            mig_name_characters(key) <= 3)
            continue;
        MIG_TRY(mig_nodes_push(query, nodes, graph->key_node[i]));
        MIG_TRY(mig_nodes_push(query, keys, i));
    }
    return MIG_OK;
}

static mig_status no_such_revision(mig_query *query, mig_name id)
{
    mig_name hint = MIG_NAME("; please ensure at least four characters are present for partial "
                             "revision identifier matches");
    if (mig_name_characters(id) >= 4)
        hint.length = 0;
    return mig_graph_error_argument(query->error,
                                    MIG_GRAPH_FAIL(query->error, MIG_GRAPH_RESOLUTION,
                                                   MIG_NAME("No such revision or branch '"), id,
                                                   MIG_NAME("'"), hint),
                                    id);
}

static mig_status many_revisions(mig_query *query, mig_name id, const mig_nodes *keys)
{
    const mig_name *names = query->graph->keys;
    mig_name none = {"", 0}, third = none, before_third = none;
    if (keys->count > 2) {
        third = names[keys->items[2]];
        before_third = MIG_NAME("', '");
    }
    return mig_graph_error_argument(query->error,
                                    MIG_GRAPH_FAIL(query->error, MIG_GRAPH_RESOLUTION,
                                                   MIG_NAME("Multiple revisions start with '"), id,
                                                   MIG_NAME("': '"), names[keys->items[0]],
                                                   MIG_NAME("', '"), names[keys->items[1]],
                                                   before_third, third, MIG_NAME("'...")),
                                    id);
}

/* Who is on one line with `branch`; NULL where there is nothing to check. */
static mig_status branch_lineage(mig_query *query, mig_name branch, uint64_t **marks)
{
    uint32_t node;
    *marks = NULL;
    if (branch.length == 0)
        return MIG_OK;
    MIG_TRY(resolve_branch(query, branch, &node));
    return node == MIG_NODE_NONE ? MIG_OK : mark_lineage(query, (mig_span){&node, 1}, false, marks);
}

/* _revision_for_ident, with what branch_lineage found of `branch`. */
static mig_status revision_on_branch(mig_query *query, mig_name id, mig_name branch,
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
                                                       MIG_NAME("Revision "), graph->names[*found],
                                                       MIG_NAME(" is not a member of branch '"),
                                                       branch, MIG_NAME("'")),
                                        id);
    return MIG_OK;
}

/* _revision_for_ident; `id` without text is Python's None or (). */
static mig_status revision_for_ident(mig_query *query, mig_name id, mig_name branch,
                                     uint32_t *found)
{
    uint64_t *marks;
    MIG_TRY(branch_lineage(query, branch, &marks));
    *found = MIG_NODE_NONE;
    return id.text == NULL ? MIG_OK : revision_on_branch(query, id, branch, marks, found);
}

/* get_current_head */
static mig_status current_head(mig_query *query, mig_name branch, mig_nodes *head)
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
    mig_name argument = MIG_NAME("head");
    MIG_TRY(names_of(query, span_of(head), &names));
    if (branch.length > 0)
        MIG_TRY(joined(query, branch, "@", argument, &argument));
    return mig_graph_error_argument(
        query->error,
        mig_graph_fail_names(query->error, MIG_GRAPH_MULTIPLE_HEADS, names.items, names.count),
        argument);
}

/* What begins with a symbol may be a branch of that name: Alembic takes it for one, then the other.
 */
static mig_status check_branch(mig_query *query, mig_name branch)
{
    if (!mig_name_is_symbol(branch))
        return MIG_OK;
    return MIG_GRAPH_FAIL(query->error, MIG_GRAPH_DECLINED, MIG_NAME("a symbol as a branch"));
}

mig_status mig_resolve_number(mig_query *query, mig_ids id, mig_ids *resolved, mig_name *branch)
{
    const mig_graph *graph = query->graph;
    mig_nodes nodes = {NULL, 0, 0};
    mig_name text = id.count == 1 ? id.items[0] : MIG_NO_NAME;
    *branch = MIG_NO_NAME;
    *resolved = id;
    if (id.is_sequence)
        return MIG_OK;
    if (split_branch(text, branch, &text)) {
        MIG_TRY(check_branch(query, *branch));
        mig_name *copy = mig_arena_get(&query->arena, sizeof *copy);
        if (copy == NULL)
            return MIG_ENOMEM;
        *copy = text;
        *resolved = (mig_ids){copy, 1, false};
    }
    if (mig_name_is(text, "heads")) {
        if (branch->length == 0)
            return names_of(query, graph->real_heads, resolved);
        MIG_TRY(mig_filter_for_lineage(query, graph->heads, *branch, false, &nodes));
        return names_of(query, span_of(&nodes), resolved);
    }
    if (mig_name_is(text, "head")) {
        MIG_TRY(current_head(query, *branch, &nodes));
        return names_of(query, span_of(&nodes), resolved);
    }
    if (text.text == NULL || mig_name_is(text, "base"))
        resolved->count = 0;
    return MIG_OK;
}

mig_status mig_get_revision(mig_query *query, mig_name id, uint32_t *found)
{
    mig_ids resolved;
    mig_name branch;
    MIG_TRY(mig_resolve_number(query, one_id(&id), &resolved, &branch));
    if (resolved.count > 1)
        return mig_graph_error_argument(query->error,
                                        mig_graph_fail_names(query->error, MIG_GRAPH_MULTIPLE_HEADS,
                                                             resolved.items, resolved.count),
                                        id);
    return revision_for_ident(query, resolved.count == 1 ? resolved.items[0] : MIG_NO_NAME, branch,
                              found);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f);
}

/* One more digit of a number of steps; more than there are revisions are as many. */
static uint32_t add_digit(uint32_t steps, char digit)
{
    return steps < MIG_NODE_MAX / 10 ? steps * 10 + (uint32_t)(digit - '0') : MIG_NODE_MAX;
}

/* A negative whole number, as int() reads it: spaces around it, single underscores between digits.
 */
static bool negative_number(mig_name text, uint32_t *steps)
{
    size_t at = 0, end = text.length;
    while (at < end && is_space(text.text[at]))
        at++;
    while (end > at && is_space(text.text[end - 1]))
        end--;
    if (end - at < 2 || text.text[at] != '-' || !is_digit(text.text[end - 1]))
        return false;
    *steps = 0;
    for (at++; at < end; at++) {
        char c = text.text[at];
        if (c == '_' && is_digit(text.text[at - 1]) && is_digit(text.text[at + 1]))
            continue;
        if (!is_digit(c))
            return false;
        *steps = add_digit(*steps, c);
    }
    return *steps > 0;
}

static mig_status walk_steps(mig_query *query, uint32_t start, bool up, uint32_t steps,
                             mig_name branch, bool no_overwalk, uint32_t *found);

static mig_status get_one_id(mig_query *query, mig_name id, mig_nodes *found)
{
    const mig_graph *graph = query->graph;
    mig_ids resolved;
    mig_name branch;
    uint32_t steps;
    MIG_TRY(mig_resolve_number(query, one_id(&id), &resolved, &branch));
    if (resolved.count == 1 && negative_number(resolved.items[0], &steps)) {
        /* branch@-n: down from the heads */
        uint32_t label = mig_graph_label(graph, branch);
        uint64_t *marks = NULL;
        if (label != MIG_NODE_NONE)
            MIG_TRY(mig_with_label(query, label, &marks));
        for (uint32_t i = 0; i < graph->real_heads.count; i++) {
            uint32_t head = graph->real_heads.items[i], node;
            if (branch.text != NULL && (marks == NULL || !mig_marked(marks, head)))
                continue;
            MIG_TRY(walk_steps(query, head, false, steps, MIG_NO_NAME, true, &node));
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

/* Relative destinations ---------------------------------------------------------------------- */

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (unsigned char)c >= 0x80;
}

typedef struct relative {
    mig_name branch, symbol, number; /* those that are missing have no text */
    bool up;
    uint32_t steps;
} relative;

/* (\w+)?((?:\+|-)\d+) at `at` */
static bool match_symbol_and_number(mig_name text, size_t at, relative *match)
{
    size_t symbol = at;
    while (at < text.length && is_word(text.text[at]))
        at++;
    match->symbol = at > symbol ? (mig_name){text.text + symbol, at - symbol} : MIG_NO_NAME;
    size_t number = at;
    if (at >= text.length || (text.text[at] != '+' && text.text[at] != '-'))
        return false;
    match->up = text.text[at++] == '+';
    match->steps = 0;
    size_t digits = at;
    for (; at < text.length && is_digit(text.text[at]); at++)
        match->steps = add_digit(match->steps, text.text[at]);
    match->number = (mig_name){text.text + number, at - number};
    return at > digits;
}

/* _relative_destination.match: (?:(.+?)@)?(\w+)?((?:\+|-)\d+) */
static bool match_relative(mig_name text, relative *match)
{
    if (text.text == NULL)
        return false;
    for (size_t at = 1; at < text.length && text.text[at - 1] != '\n'; at++) {
        match->branch = (mig_name){text.text, at};
        if (text.text[at] == '@' && match_symbol_and_number(text, at + 1, match))
            return true;
    }
    match->branch = MIG_NO_NAME;
    return match_symbol_and_number(text, 0, match);
}

static mig_status plain_error(mig_query *query, const char *text)
{
    mig_name message = {text, strlen(text)};
    return mig_graph_fail_pieces(query->error, MIG_GRAPH_REVISION, &message, 1);
}

/* as_int: Alembic prints the number there, not what was typed */
static mig_status no_such_steps(mig_query *query, const relative *match, bool as_int)
{
    mig_name count = {match->number.text + 1, match->number.length - 1}, number = match->number;
    while (count.length > 1 && count.text[0] == '0')
        count = (mig_name){count.text + 1, count.length - 1};
    if (as_int)
        MIG_TRY(
            joined(query, MIG_NO_NAME, match->up || match->steps == 0 ? "" : "-", count, &number));
    return MIG_GRAPH_FAIL(query->error, MIG_GRAPH_REVISION, MIG_NAME("Relative revision "), number,
                          MIG_NAME(" didn't produce "), count, MIG_NAME(" migrations"));
}

/* _walk */
static mig_status walk_steps(mig_query *query, uint32_t start, bool up, uint32_t steps,
                             mig_name branch, bool no_overwalk, uint32_t *found)
{
    const mig_graph *graph = query->graph;
    uint32_t node = start;
    lineage_filter line;
    bool filters = up && branch.length > 0 && steps > 0 && start != MIG_NODE_BASE;
    if (filters)
        MIG_TRY(begin_lineage(query, branch, false, &line));
    for (uint32_t i = 0; i < steps; i++) {
        mig_nodes filtered = {NULL, 0, 0};
        mig_span children;
        uint32_t base = MIG_NODE_BASE;
        if (up) {
            if (node == MIG_NODE_BASE)
                return mig_query_assert(query, "there is no way up from 'base'");
            children = node == MIG_NODE_NONE ? graph->bases : mig_edges_of(&graph->next, node);
            if (filters) {
                MIG_TRY(filter(query, &line, children, &filtered));
                children = span_of(&filtered);
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
            return plain_error(query, "Ambiguous walk");
        node = children.items[0];
    }
    *found = node;
    return MIG_OK;
}

/* get_revision of `symbol`, or of `branch@symbol` */
static mig_status get_on_branch(mig_query *query, mig_name branch, mig_name symbol, uint32_t *found)
{
    if (branch.text != NULL)
        MIG_TRY(joined(query, branch, "@", symbol, &symbol));
    return mig_get_revision(query, symbol, found);
}

/* What is current on `branch`, for a downgrade: one name, as it was given if it was. */
static mig_status current_on_branch(mig_query *query, mig_ids current, mig_name branch,
                                    mig_name *symbol)
{
    lineage_filter line;
    uint32_t count = 0;
    MIG_TRY(begin_lineage(query, branch, false, &line));
    for (size_t i = 0; i < current.count; i++) {
        bool is = true;
        if (!takes_all(&line)) {
            uint32_t node;
            MIG_TRY(revision_for_ident(query, current.items[i], MIG_NO_NAME, &node));
            MIG_TRY(is_on_line(query, &line, node, &is));
        }
        if (is) {
            *symbol = current.items[i];
            count++;
        }
    }
    if (count == 0) {
        mig_nodes all = {NULL, 0, 0}, on_branch = {NULL, 0, 0};
        MIG_TRY(mig_all_current(query, current, &all));
        MIG_TRY(mig_filter_for_lineage(query, span_of(&all), branch, false, &on_branch));
        count = on_branch.count;
        if (count == 1)
            *symbol = query->graph->names[on_branch.items[0]];
    }
    return count == 1
               ? MIG_OK
               : mig_query_assert(query, "not exactly one current revision is on that branch");
}

/* _parse_downgrade_target */
static mig_status parse_downgrade_target(mig_query *query, mig_ids current, mig_ids target,
                                         bool no_overwalk, mig_name *branch, uint32_t *found)
{
    relative match;
    *branch = MIG_NO_NAME;
    *found = MIG_NODE_NONE;
    if (is_none(target))
        return MIG_OK;
    if (target.is_sequence || target.count != 1)
        return mig_query_assert(query, "Expected downgrade target in string form");
    mig_name text = target.items[0];
    if (!match_relative(text, &match)) {
        for (size_t i = text.length; i > 0; i--) {
            if (text.text[i - 1] == '@') {
                *branch = (mig_name){i > 1 ? text.text : NULL, i - 1};
                text = (mig_name){text.text + i, text.length - i};
                break;
            }
        }
        return mig_get_revision(query, text, found);
    }
    MIG_TRY(check_branch(query, match.branch));
    *branch = match.branch;
    if (match.up || match.steps == 0) {
        if (match.symbol.text == NULL)
            return no_such_steps(query, &match, false);
        uint32_t start;
        MIG_TRY(mig_get_revision(query, match.symbol, &start));
        MIG_TRY(walk_steps(query, start, true, match.steps, match.branch, no_overwalk, found));
        return *found == MIG_NODE_NONE ? plain_error(query, "Walked too far") : MIG_OK;
    }
    mig_name symbol = match.symbol;
    if (symbol.text == NULL) {
        if (is_none(current))
            current.count = 0;
        if (branch->text != NULL) {
            MIG_TRY(current_on_branch(query, current, *branch, &symbol));
        } else {
            if (current.count == 0)
                return no_such_steps(query, &match, false);
            for (size_t i = 1; i < current.count; i++)
                query->error->ambiguous_downgrade |=
                    !mig_name_equal(current.items[i], current.items[0]);
            symbol = current.items[0];
            *branch = symbol;
        }
    }
    uint32_t start;
    MIG_TRY(get_on_branch(query, *branch, symbol, &start));
    MIG_TRY(walk_steps(query, start, false, match.steps, MIG_NO_NAME, no_overwalk, found));
    if (*found != MIG_NODE_NONE)
        return MIG_OK;
    return match.symbol.text == NULL ? no_such_steps(query, &match, false)
                                     : plain_error(query, "Walked too far");
}

/* Where an upgrade of `branch` by a number of steps starts, when no current head is on it. */
static mig_status tips_on_branch(mig_query *query, mig_span current, mig_name branch,
                                 mig_nodes *tips)
{
    const mig_graph *graph = query->graph;
    mig_nodes active = {NULL, 0, 0}, on_branch = {NULL, 0, 0};
    uint64_t *marks = mig_query_marks(query), *below = mig_query_marks(query);
    if (marks == NULL || below == NULL)
        return MIG_ENOMEM;
    MIG_TRY(mig_walk(query, &graph->steps_down, current, false, marks, &active));
    MIG_TRY(mig_filter_for_lineage(query, span_of(&active), branch, false, &on_branch));
    for (uint32_t i = 0; i < on_branch.count; i++) {
        mig_span down = mig_edges_of(&graph->steps_down, on_branch.items[i]);
        for (uint32_t j = 0; j < down.count; j++)
            mig_mark(below, down.items[j]);
    }
    for (uint32_t i = 0; i < on_branch.count; i++) {
        if (!mig_marked(below, on_branch.items[i]))
            MIG_TRY(mig_nodes_push(query, tips, on_branch.items[i]));
    }
    return tips->count == 0 ? mig_nodes_push(query, tips, MIG_NODE_NONE) : MIG_OK;
}

/* _parse_upgrade_target */
static mig_status parse_upgrade_target(mig_query *query, mig_ids current, mig_ids target,
                                       bool no_overwalk, mig_nodes *found)
{
    relative match;
    uint32_t node, start;
    if (target.is_sequence || target.count != 1 || !match_relative(target.items[0], &match))
        return mig_get_revisions(query, target, found);
    MIG_TRY(check_branch(query, match.branch));
    if (!match.up || match.steps == 0) {
        if (match.symbol.text == NULL)
            return no_such_steps(query, &match, true);
        MIG_TRY(get_on_branch(query, match.branch, match.symbol, &start));
        MIG_TRY(walk_steps(query, start, false, match.steps, MIG_NO_NAME, no_overwalk, &node));
        return mig_nodes_push(query, found, node);
    }
    if (match.symbol.text != NULL) {
        MIG_TRY(mig_get_revision(query, match.symbol, &start));
        MIG_TRY(walk_steps(query, start, true, match.steps, match.branch, no_overwalk, &node));
        return mig_nodes_push(query, found, node);
    }
    mig_nodes starts = {NULL, 0, 0};
    if (is_none(current))
        current.count = 0;
    if (match.branch.text != NULL) {
        mig_nodes given = {NULL, 0, 0};
        MIG_TRY(mig_get_revisions(query, current, &given));
        MIG_TRY(mig_filter_for_lineage(query, span_of(&given), match.branch, false, &starts));
        if (starts.count == 0)
            MIG_TRY(tips_on_branch(query, span_of(&given), match.branch, &starts));
    } else if (current.count == 0) {
        MIG_TRY(mig_nodes_push(query, &starts, MIG_NODE_NONE));
    } else if (current.count == 1) {
        MIG_TRY(mig_get_revision(query, current.items[0], &node));
        MIG_TRY(mig_nodes_push(query, &starts, node));
    }
    if (starts.count != 1)
        return plain_error(query, "Ambiguous upgrade from multiple current revisions");
    MIG_TRY(
        walk_steps(query, starts.items[0], true, match.steps, match.branch, no_overwalk, &node));
    if (node == MIG_NODE_NONE)
        return no_such_steps(query, &match, false);
    return mig_nodes_push(query, found, node);
}

/* Ranges ------------------------------------------------------------------------------------- */

mig_status mig_all_current(mig_query *query, mig_ids ids, mig_nodes *found)
{
    const mig_graph *graph = query->graph;
    mig_nodes top = {NULL, 0, 0};
    uint64_t *marks = mig_query_marks(query);
    if (marks == NULL)
        return MIG_ENOMEM;
    MIG_TRY(mig_get_revisions(query, ids, &top));
    MIG_TRY(mig_walk(query, &graph->steps_down, span_of(&top), false, marks, NULL));
    /* _filter_into_branch_heads: all below is marked, so a look at the next revisions is enough */
    for (uint32_t i = 0; i < graph->count; i++) {
        if (!mig_marked(marks, i))
            continue;
        mig_span next = mig_edges_of(&graph->next, i);
        uint32_t j = 0;
        while (j < next.count && !mig_marked(marks, next.items[j]))
            j++;
        if (j == next.count)
            MIG_TRY(mig_nodes_push(query, found, i));
    }
    return MIG_OK;
}

/* RangeNotAncestorError: lower and upper are those of the question, which the binding has. */
static mig_status range_error(mig_query *query)
{
    query->error->kind = MIG_GRAPH_RANGE;
    return MIG_EREVISION;
}

/* The names of a lower bound `branch@...`: only targets on that branch count. */
static mig_status only_on_branch(mig_query *query, mig_name lower, mig_nodes *targets)
{
    const mig_graph *graph = query->graph;
    mig_name branch, rest;
    uint32_t node, label;
    uint64_t *marks = NULL;
    if (!split_branch(lower, &branch, &rest))
        return MIG_OK;
    MIG_TRY(mig_get_revision(query, branch, &node));
    if (node != MIG_NODE_NONE && mig_name_equal(graph->names[node], branch)) {
        mig_nodes labels = {NULL, 0, 0};
        if (graph->label_set[node] != MIG_NODE_NONE)
            MIG_TRY(mig_labels(query, graph->label_set[node], &labels));
        if (labels.count != 1)
            return mig_query_assert(query, "that revision is not on exactly one labelled branch");
        label = labels.items[0];
    } else {
        label = mig_graph_label(graph, branch);
    }
    uint32_t kept = 0;
    if (label != MIG_NODE_NONE)
        MIG_TRY(mig_with_label(query, label, &marks));
    for (uint32_t i = 0; i < targets->count; i++) {
        if (marks != NULL && mig_marked(marks, targets->items[i]))
            targets->items[kept++] = targets->items[i];
    }
    targets->count = kept;
    return MIG_OK;
}

static mig_status collect_upgrade(mig_query *query, const mig_range *range, uint64_t *needs,
                                  mig_nodes *heads)
{
    const mig_graph *graph = query->graph;
    size_t words = ((size_t)graph->count + 63) / 64;
    mig_ids lower = range->lower;
    mig_nodes current = {NULL, 0, 0};
    uint64_t *present = mig_query_marks(query);
    if (present == NULL)
        return MIG_ENOMEM;
    MIG_TRY(parse_upgrade_target(query, lower, range->upper, range->assert_relative_length, heads));
    MIG_TRY(assert_revisions(query, span_of(heads)));
    if (!lower.is_sequence && lower.count == 1 && lower.items[0].text != NULL)
        MIG_TRY(only_on_branch(query, lower.items[0], heads));
    MIG_TRY(mig_walk(query, &graph->steps_down, span_of(heads), true, needs, NULL));
    MIG_TRY(mig_get_revisions(query, lower, &current));
    for (uint32_t i = 0; i < current.count && !range->implicit_base; i++) {
        uint32_t node = current.items[i];
        if (node == MIG_NODE_BASE || (is_node(node) && !mig_marked(needs, node)))
            return range_error(query);
    }
    if (current.count > 0 && current.items[0] == MIG_NODE_NONE) {
        mig_name branch;
        uint32_t node;
        MIG_TRY(parse_downgrade_target(query, range->upper, lower, range->assert_relative_length,
                                       &branch, &node));
        if (node == MIG_NODE_NONE)
            return mig_query_assert(query, "the lower end of the range is no revision");
        current.count = 0;
        lower.count = 0;
        if (node != MIG_NODE_BASE) {
            MIG_TRY(mig_nodes_push(query, &current, node));
            lower = (mig_ids){&graph->names[node], 1, false};
        }
    }
    MIG_TRY(mig_walk(query, &graph->steps_down, span_of(&current), true, present, NULL));
    for (size_t i = 0; i < words; i++)
        needs[i] &= ~present[i];
    if (range->inclusive) {
        mig_nodes added = {NULL, 0, 0};
        MIG_TRY(mig_get_revisions(query, lower, &added));
        MIG_TRY(assert_revisions(query, span_of(&added)));
        for (uint32_t i = 0; i < added.count; i++)
            mig_mark(needs, added.items[i]);
    }
    if (current.count > 0 && !range->implicit_base) {
        uint64_t *above = mig_query_marks(query);
        if (above == NULL)
            return MIG_ENOMEM;
        MIG_TRY(mig_walk(query, &graph->next, span_of(&current), true, above, NULL));
        for (size_t i = 0; i < words; i++)
            needs[i] &= above[i];
    }
    return MIG_OK;
}

static mig_status downgrade_roots(mig_query *query, const mig_range *range, mig_name branch,
                                  uint32_t target, mig_nodes *roots)
{
    const mig_graph *graph = query->graph;
    mig_span candidates = graph->bases;
    bool several = candidates.count > 1;
    if (is_node(target)) {
        candidates = range->inclusive ? (mig_span){&target, 1} : mig_edges_of(&graph->next, target);
        several = candidates.count > 1;
    } else {
        /* Alembic's map has a labelled base twice: by its id and by its label */
        for (uint32_t i = graph->count; i < graph->key_count; i++)
            several = several || mig_edges_of(&graph->down, graph->key_node[i]).count == 0;
    }
    uint64_t *on_branch = NULL;
    if (branch.length > 0 && several) {
        uint32_t node;
        on_branch = mig_query_marks(query);
        if (on_branch == NULL)
            return MIG_ENOMEM;
        MIG_TRY(resolve_branch(query, branch, &node));
        MIG_TRY(mig_walk(query, &graph->down, (mig_span){&node, 1}, false, on_branch, NULL));
    }
    for (uint32_t i = 0; i < candidates.count; i++) {
        if (on_branch == NULL || mig_marked(on_branch, candidates.items[i]))
            MIG_TRY(mig_nodes_push(query, roots, candidates.items[i]));
    }
    if (on_branch != NULL && roots->count == 0)
        return plain_error(query, "Not a valid downgrade target from current heads");
    return MIG_OK;
}

static mig_status collect_downgrade(mig_query *query, const mig_range *range, uint64_t *drops,
                                    mig_nodes *heads)
{
    const mig_graph *graph = query->graph;
    size_t words = ((size_t)graph->count + 63) / 64;
    mig_name branch;
    uint32_t target;
    mig_nodes roots = {NULL, 0, 0};
    uint64_t *active = mig_query_marks(query);
    if (active == NULL)
        return MIG_ENOMEM;
    MIG_TRY(parse_downgrade_target(query, range->upper, range->lower, range->assert_relative_length,
                                   &branch, &target));
    MIG_TRY(downgrade_roots(query, range, branch, target, &roots));
    MIG_TRY(mig_get_revisions(query, range->upper, heads));
    MIG_TRY(mig_walk(query, &graph->all_next, span_of(&roots), false, drops, NULL));
    MIG_TRY(mig_walk(query, &graph->steps_down, span_of(heads), false, active, NULL));
    bool any = false;
    for (size_t i = 0; i < words; i++)
        drops[i] &= active[i];
    if (range->implicit_base) {
        uint64_t *below = mig_query_marks(query);
        if (below == NULL)
            return MIG_ENOMEM;
        MIG_TRY(mig_walk(query, &graph->steps_down, span_of(&roots), false, below, NULL));
        for (size_t i = 0; i < words; i++)
            drops[i] |= active[i] & ~below[i];
    }
    for (size_t i = 0; i < words; i++)
        any = any || drops[i] != 0;
    bool is_head = !is_node(target);
    for (uint32_t i = 0; i < heads->count; i++)
        is_head = is_head || heads->items[i] == target;
    if (!any && !is_head) {
        /* RangeNotAncestorError("Nothing to drop", upper) */
        mig_name nothing = MIG_NAME("Nothing to drop");
        (void)range_error(query);
        return mig_graph_error_argument(query->error, MIG_EREVISION, nothing);
    }
    return MIG_OK;
}

mig_status mig_iterate(mig_query *query, const mig_range *range, mig_nodes *found)
{
    mig_nodes heads = {NULL, 0, 0};
    uint64_t *todo = mig_query_marks(query);
    if (todo == NULL)
        return MIG_ENOMEM;
    if (range->select_for_downgrade)
        MIG_TRY(collect_downgrade(query, range, todo, &heads));
    else
        MIG_TRY(collect_upgrade(query, range, todo, &heads));
    return mig_topological_sort(query, todo, span_of(&heads), found);
}
