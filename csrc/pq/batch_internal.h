/*
 * What batch.c uses of batch_judge.c; nobody else includes this.
 */
#ifndef MIG_PQ_BATCH_INTERNAL_H
#define MIG_PQ_BATCH_INTERNAL_H

#include "core/sql_lexer.h"
#include "pq/batch.h"

/* What is known of a text before it is queued. */
typedef struct mig_batch_text {
    mig_sql_info info;       /* with standard_conforming_strings */
    bool depends_on_strings; /* that setting decides how many statements the text holds */
    bool is_ascii;
    bool has_zero;
} mig_batch_text;

/* Read a text of `length` bytes, and its parameters (NULL: none). O(bytes). */
mig_batch_text mig_batch_read_text(const char *sql, size_t length, const mig_batch_params *params);

/* Copy parameters (NULL: none) into a block of their own. *bytes: how much the values are. MIG_OK;
 * MIG_ENOMEM, with nothing in `copy`. */
mig_status mig_batch_copy_params(const mig_alloc *alloc, const mig_batch_params *params,
                                 mig_batch_params *copy, size_t *bytes, mig_error *error);

/* Free a copy; leaves none. */
void mig_batch_release_params(const mig_alloc *alloc, mig_batch_params *params);

/* Whether a text may change the facts. True also for several statements, and for commands that are
 * not on the list. */
bool mig_batch_may_change_facts(const mig_sql_info *info);

/* The facts of a session now, as the server reported them; "" and false if it has no connection. */
mig_batch_facts mig_batch_facts_of(const mig_session *session);

/* Whether the server reads our UTF-8 as such under these facts. ascii: all of it is ASCII. */
bool mig_batch_is_readable(const mig_batch_facts *facts, bool ascii);

#endif
