/*
 * What the two halves of name resolution share; nobody else includes this. resolve_ids.c defines
 * what is declared here, and resolve_ranges.c uses it.
 *
 * Each function returns MIG_OK; MIG_EREVISION with query->error filled, in the order of Alembic's
 * checks; or MIG_ENOMEM.
 */
#ifndef MIG_CORE_RESOLVE_INTERNAL_H
#define MIG_CORE_RESOLVE_INTERNAL_H

#include "core/resolve.h"

static inline bool is_node(uint32_t node)
{
    return node < MIG_NODE_BASE;
}

/* is_revision() of each: an assertion error if one is None or 'base'. */
mig_status mig_resolve_assert_nodes(mig_query *query, mig_span nodes);

/* `text` split at the first '@' into two names that borrow it; false without one. */
bool mig_resolve_split_branch(mig_text text, mig_text *branch, mig_text *rest);

/* *text = `a`, `between` and `b`, one after the other, in the query's arena. */
mig_status mig_resolve_join(mig_query *query, mig_text a, const char *between, mig_text b,
                            mig_text *text);

/* _revision_for_ident; `id` without text is Python's None or (). */
mig_status mig_resolve_id(mig_query *query, mig_text id, mig_text branch, uint32_t *found);

/* _resolve_branch */
mig_status mig_resolve_branch(mig_query *query, mig_text label, uint32_t *found);

/*
 * A branch whose name begins with a symbol may be a branch of that name, for which Alembic takes it
 * first in one place and last in another: MIG_GRAPH_DECLINED.
 */
mig_status mig_resolve_check_branch(mig_query *query, mig_text branch);

/*
 * filter_for_lineage, one target at a time. What it compares with is looked up when the first
 * target asks, as in Alembic, because the order of errors follows from that.
 */
typedef struct lineage_filter {
    mig_text against; /* `ids` may borrow it */
    mig_ids ids;
    mig_text branch;
    bool dependencies;
    uint64_t *marks; /* NULL: not looked up yet */
} lineage_filter;

/* Start a filter for what shares a lineage with `against`. *filter must stay where it is. */
mig_status mig_lineage_begin(mig_query *query, mig_text against, bool dependencies,
                             lineage_filter *filter);

/* Whether there is nothing to compare with: then every target passes unseen. */
bool mig_lineage_takes_all(const lineage_filter *filter);

/* *shares: whether `target` shares the lineage. Not to be asked where takes_all is true. */
mig_status mig_lineage_has(mig_query *query, lineage_filter *filter, uint32_t target, bool *shares);

/* Push those of `targets` that pass to `found`. */
mig_status mig_lineage_filter(mig_query *query, lineage_filter *filter, mig_span targets,
                              mig_nodes *found);

/*
 * _walk: up to `steps` steps up or down from `start`. *found: where it ends; with no_overwalk,
 * MIG_NODE_NONE if there were fewer.
 */
mig_status mig_resolve_walk(mig_query *query, uint32_t start, bool up, uint32_t steps,
                            mig_text branch, bool no_overwalk, uint32_t *found);

/* One more digit of a number of steps; more than there are revisions are as many. */
static inline uint32_t add_digit(uint32_t steps, char digit)
{
    return steps < MIG_NODE_MAX / 10 ? steps * 10 + (uint32_t)(digit - '0') : MIG_NODE_MAX;
}

/* Fail with RevisionError(text). */
mig_status mig_resolve_fail(mig_query *query, const char *text);

#endif
