/*
 * Ranges between two revisions, relative ones ('+2', 'branch@-1') among them. Each function mirrors
 * the method of RevisionMap that its comment names (alembic/script/revision.py, read in 1.20.1).
 */
#include "core/resolve_internal.h"

#include <string.h>

#include "core/graph_inherit.h"
#include "core/graph_walk.h"
#include "core/order.h"

/* Python's None, not a sequence that holds it. */
static bool is_none(mig_ids ids)
{
    return !ids.is_sequence && ids.count == 1 && ids.items[0].text == NULL;
}

/* Relative destinations ---------------------------------------------------------------------- */

static bool is_word(char c)
{
    return mig_is_letter(c) || mig_is_digit(c) || c == '_' || mig_is_high(c);
}

typedef struct relative {
    mig_text branch, symbol, number; /* those that are missing have no text */
    bool up;
    uint32_t steps;
} relative;

/* (\w+)?((?:\+|-)\d+) at `at` */
static bool match_symbol_and_number(mig_text text, size_t at, relative *match)
{
    size_t symbol = at;
    while (at < text.length && is_word(text.text[at]))
        at++;
    match->symbol = at > symbol ? (mig_text){text.text + symbol, at - symbol} : MIG_NO_TEXT;
    size_t number = at;
    if (at >= text.length || (text.text[at] != '+' && text.text[at] != '-'))
        return false;
    match->up = text.text[at++] == '+';
    match->steps = 0;
    size_t digits = at;
    for (; at < text.length && mig_is_digit(text.text[at]); at++)
        match->steps = add_digit(match->steps, text.text[at]);
    match->number = (mig_text){text.text + number, at - number};
    return at > digits;
}

/* _relative_destination.match: (?:(.+?)@)?(\w+)?((?:\+|-)\d+) */
static bool match_relative(mig_text text, relative *match)
{
    if (text.text == NULL)
        return false;
    for (size_t at = 1; at < text.length && text.text[at - 1] != '\n'; at++) {
        match->branch = (mig_text){text.text, at};
        if (text.text[at] == '@' && match_symbol_and_number(text, at + 1, match))
            return true;
    }
    match->branch = MIG_NO_TEXT;
    return match_symbol_and_number(text, 0, match);
}

/* as_int: Alembic prints the number there, not what was typed */
static mig_status no_such_steps(mig_query *query, const relative *match, bool as_int)
{
    mig_text count = {match->number.text + 1, match->number.length - 1}, number = match->number;
    while (count.length > 1 && count.text[0] == '0')
        count = (mig_text){count.text + 1, count.length - 1};
    if (as_int)
        MIG_TRY(mig_resolve_join(query, MIG_NO_TEXT, match->up || match->steps == 0 ? "" : "-",
                                 count, &number));
    return MIG_GRAPH_FAIL(query->error, MIG_GRAPH_REVISION, MIG_TEXT("Relative revision "), number,
                          MIG_TEXT(" didn't produce "), count, MIG_TEXT(" migrations"));
}

/* get_revision of `symbol`, or of `branch@symbol` */
static mig_status get_on_branch(mig_query *query, mig_text branch, mig_text symbol, uint32_t *found)
{
    if (branch.text != NULL)
        MIG_TRY(mig_resolve_join(query, branch, "@", symbol, &symbol));
    return mig_get_revision(query, symbol, found);
}

/* What is current on `branch`, for a downgrade: one name, as it was given if it was. */
static mig_status current_on_branch(mig_query *query, mig_ids current, mig_text branch,
                                    mig_text *symbol)
{
    lineage_filter filter;
    uint32_t count = 0;
    MIG_TRY(mig_lineage_begin(query, branch, false, &filter));
    for (size_t i = 0; i < current.count; i++) {
        bool is = true;
        if (!mig_lineage_takes_all(&filter)) {
            uint32_t node;
            MIG_TRY(mig_resolve_id(query, current.items[i], MIG_NO_TEXT, &node));
            MIG_TRY(mig_lineage_has(query, &filter, node, &is));
        }
        if (is) {
            *symbol = current.items[i];
            count++;
        }
    }
    if (count == 0) {
        mig_nodes all = {NULL, 0, 0}, on_branch = {NULL, 0, 0};
        MIG_TRY(mig_all_current(query, current, &all));
        MIG_TRY(mig_filter_for_lineage(query, mig_nodes_span(&all), branch, false, &on_branch));
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
                                         bool no_overwalk, mig_text *branch, uint32_t *found)
{
    relative match;
    *branch = MIG_NO_TEXT;
    *found = MIG_NODE_NONE;
    if (is_none(target))
        return MIG_OK;
    if (target.is_sequence || target.count != 1)
        return mig_query_assert(query, "Expected downgrade target in string form");
    mig_text text = target.items[0];
    if (!match_relative(text, &match)) {
        for (size_t i = text.length; i > 0; i--) {
            if (text.text[i - 1] == '@') {
                *branch = (mig_text){i > 1 ? text.text : NULL, i - 1};
                text = (mig_text){text.text + i, text.length - i};
                break;
            }
        }
        return mig_get_revision(query, text, found);
    }
    MIG_TRY(mig_resolve_check_branch(query, match.branch));
    *branch = match.branch;
    if (match.up || match.steps == 0) {
        if (match.symbol.text == NULL)
            return no_such_steps(query, &match, false);
        uint32_t start;
        MIG_TRY(mig_get_revision(query, match.symbol, &start));
        MIG_TRY(
            mig_resolve_walk(query, start, true, match.steps, match.branch, no_overwalk, found));
        return *found == MIG_NODE_NONE ? mig_resolve_fail(query, "Walked too far") : MIG_OK;
    }
    mig_text symbol = match.symbol;
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
                    !mig_text_equal(current.items[i], current.items[0]);
            symbol = current.items[0];
            *branch = symbol;
        }
    }
    uint32_t start;
    MIG_TRY(get_on_branch(query, *branch, symbol, &start));
    MIG_TRY(mig_resolve_walk(query, start, false, match.steps, MIG_NO_TEXT, no_overwalk, found));
    if (*found != MIG_NODE_NONE)
        return MIG_OK;
    return match.symbol.text == NULL ? no_such_steps(query, &match, false)
                                     : mig_resolve_fail(query, "Walked too far");
}

/* Where an upgrade of `branch` by a number of steps starts, when no current head is on it. */
static mig_status tips_on_branch(mig_query *query, mig_span current, mig_text branch,
                                 mig_nodes *tips)
{
    const mig_graph *graph = query->graph;
    mig_nodes active = {NULL, 0, 0}, on_branch = {NULL, 0, 0};
    uint64_t *marks = mig_query_marks(query), *below = mig_query_marks(query);
    if (marks == NULL || below == NULL)
        return MIG_ENOMEM;
    MIG_TRY(mig_graph_walk(query, &graph->steps_down, current, false, marks, &active));
    MIG_TRY(mig_filter_for_lineage(query, mig_nodes_span(&active), branch, false, &on_branch));
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
    MIG_TRY(mig_resolve_check_branch(query, match.branch));
    if (!match.up || match.steps == 0) {
        if (match.symbol.text == NULL)
            return no_such_steps(query, &match, true);
        MIG_TRY(get_on_branch(query, match.branch, match.symbol, &start));
        MIG_TRY(
            mig_resolve_walk(query, start, false, match.steps, MIG_NO_TEXT, no_overwalk, &node));
        return mig_nodes_push(query, found, node);
    }
    if (match.symbol.text != NULL) {
        MIG_TRY(mig_get_revision(query, match.symbol, &start));
        MIG_TRY(
            mig_resolve_walk(query, start, true, match.steps, match.branch, no_overwalk, &node));
        return mig_nodes_push(query, found, node);
    }
    mig_nodes starts = {NULL, 0, 0};
    if (is_none(current))
        current.count = 0;
    if (match.branch.text != NULL) {
        mig_nodes given = {NULL, 0, 0};
        MIG_TRY(mig_get_revisions(query, current, &given));
        MIG_TRY(
            mig_filter_for_lineage(query, mig_nodes_span(&given), match.branch, false, &starts));
        if (starts.count == 0)
            MIG_TRY(tips_on_branch(query, mig_nodes_span(&given), match.branch, &starts));
    } else if (current.count == 0) {
        MIG_TRY(mig_nodes_push(query, &starts, MIG_NODE_NONE));
    } else if (current.count == 1) {
        MIG_TRY(mig_get_revision(query, current.items[0], &node));
        MIG_TRY(mig_nodes_push(query, &starts, node));
    }
    if (starts.count != 1)
        return mig_resolve_fail(query, "Ambiguous upgrade from multiple current revisions");
    MIG_TRY(mig_resolve_walk(query, starts.items[0], true, match.steps, match.branch, no_overwalk,
                             &node));
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
    MIG_TRY(mig_graph_walk(query, &graph->steps_down, mig_nodes_span(&top), false, marks, NULL));
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
static mig_status only_on_branch(mig_query *query, mig_text lower, mig_nodes *targets)
{
    const mig_graph *graph = query->graph;
    mig_text branch, rest;
    uint32_t node, label;
    uint64_t *marks = NULL;
    if (!mig_resolve_split_branch(lower, &branch, &rest))
        return MIG_OK;
    MIG_TRY(mig_get_revision(query, branch, &node));
    if (node != MIG_NODE_NONE && mig_text_equal(graph->names[node], branch)) {
        mig_nodes labels = {NULL, 0, 0};
        if (graph->label_set[node] != MIG_NODE_NONE)
            MIG_TRY(mig_graph_labels(query, graph->label_set[node], &labels));
        if (labels.count != 1)
            return mig_query_assert(query, "that revision is not on exactly one labelled branch");
        label = labels.items[0];
    } else {
        label = mig_graph_label(graph, branch);
    }
    uint32_t kept = 0;
    if (label != MIG_NODE_NONE)
        MIG_TRY(mig_graph_with_label(query, label, &marks));
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
    size_t words = mig_mark_words(graph);
    mig_ids lower = range->lower;
    mig_nodes current = {NULL, 0, 0};
    uint64_t *present = mig_query_marks(query);
    if (present == NULL)
        return MIG_ENOMEM;
    MIG_TRY(parse_upgrade_target(query, lower, range->upper, range->assert_relative_length, heads));
    MIG_TRY(mig_resolve_assert_nodes(query, mig_nodes_span(heads)));
    if (!lower.is_sequence && lower.count == 1 && lower.items[0].text != NULL)
        MIG_TRY(only_on_branch(query, lower.items[0], heads));
    MIG_TRY(mig_graph_walk(query, &graph->steps_down, mig_nodes_span(heads), true, needs, NULL));
    MIG_TRY(mig_get_revisions(query, lower, &current));
    for (uint32_t i = 0; i < current.count && !range->implicit_base; i++) {
        uint32_t node = current.items[i];
        if (node == MIG_NODE_BASE || (is_node(node) && !mig_marked(needs, node)))
            return range_error(query);
    }
    if (current.count > 0 && current.items[0] == MIG_NODE_NONE) {
        mig_text branch;
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
    MIG_TRY(
        mig_graph_walk(query, &graph->steps_down, mig_nodes_span(&current), true, present, NULL));
    for (size_t i = 0; i < words; i++)
        needs[i] &= ~present[i];
    if (range->inclusive) {
        mig_nodes added = {NULL, 0, 0};
        MIG_TRY(mig_get_revisions(query, lower, &added));
        MIG_TRY(mig_resolve_assert_nodes(query, mig_nodes_span(&added)));
        for (uint32_t i = 0; i < added.count; i++)
            mig_mark(needs, added.items[i]);
    }
    if (current.count > 0 && !range->implicit_base) {
        uint64_t *above = mig_query_marks(query);
        if (above == NULL)
            return MIG_ENOMEM;
        MIG_TRY(mig_graph_walk(query, &graph->next, mig_nodes_span(&current), true, above, NULL));
        for (size_t i = 0; i < words; i++)
            needs[i] &= above[i];
    }
    return MIG_OK;
}

static mig_status downgrade_roots(mig_query *query, const mig_range *range, mig_text branch,
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
        MIG_TRY(mig_resolve_branch(query, branch, &node));
        MIG_TRY(mig_graph_walk(query, &graph->down, (mig_span){&node, 1}, false, on_branch, NULL));
    }
    for (uint32_t i = 0; i < candidates.count; i++) {
        if (on_branch == NULL || mig_marked(on_branch, candidates.items[i]))
            MIG_TRY(mig_nodes_push(query, roots, candidates.items[i]));
    }
    if (on_branch != NULL && roots->count == 0)
        return mig_resolve_fail(query, "Not a valid downgrade target from current heads");
    return MIG_OK;
}

static mig_status collect_downgrade(mig_query *query, const mig_range *range, uint64_t *drops,
                                    mig_nodes *heads)
{
    const mig_graph *graph = query->graph;
    size_t words = mig_mark_words(graph);
    mig_text branch;
    uint32_t target;
    mig_nodes roots = {NULL, 0, 0};
    uint64_t *active = mig_query_marks(query);
    if (active == NULL)
        return MIG_ENOMEM;
    MIG_TRY(parse_downgrade_target(query, range->upper, range->lower, range->assert_relative_length,
                                   &branch, &target));
    MIG_TRY(downgrade_roots(query, range, branch, target, &roots));
    MIG_TRY(mig_get_revisions(query, range->upper, heads));
    MIG_TRY(mig_graph_walk(query, &graph->all_next, mig_nodes_span(&roots), false, drops, NULL));
    MIG_TRY(mig_graph_walk(query, &graph->steps_down, mig_nodes_span(heads), false, active, NULL));
    bool any = false;
    for (size_t i = 0; i < words; i++)
        drops[i] &= active[i];
    if (range->implicit_base) {
        uint64_t *below = mig_query_marks(query);
        if (below == NULL)
            return MIG_ENOMEM;
        MIG_TRY(
            mig_graph_walk(query, &graph->steps_down, mig_nodes_span(&roots), false, below, NULL));
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
        mig_text nothing = MIG_TEXT("Nothing to drop");
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
    return mig_topological_sort(query, todo, mig_nodes_span(&heads), found);
}
