/* The steps of a stamp: ScriptDirectory._stamp_revs of alembic/script/base.py (read in 1.20.1). */
#include "core/steps.h"

#include "core/graph_walk.h"
#include "core/resolve.h"

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
        MIG_TRY(mig_filter_for_lineage(query, mig_nodes_span(heads), destinations.items[i], true,
                                       &some));
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
    return mig_query_names(query, mig_nodes_span(heads), names);
}

mig_status mig_stamp_steps(mig_query *query, mig_ids destinations, mig_ids rows, mig_step **steps,
                           size_t *count)
{
    const mig_graph *graph = query->graph;
    mig_nodes heads = {NULL, 0, 0}, concerned = {NULL, 0, 0}, targets = {NULL, 0, 0};
    const mig_text base = MIG_TEXT("base");
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
    mig_span starts = mig_nodes_span(&nodes);
    MIG_TRY(mig_graph_walk(query, &graph->all_down, starts, false, below, NULL));
    MIG_TRY(mig_graph_walk(query, &graph->steps_up, starts, false, above, NULL));
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
