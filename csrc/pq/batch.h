/*
 * Many statements, one wait: the executor over libpq's pipeline mode.
 *
 * Statements are added, then run in order on a session that is inside a transaction, looked at
 * before each part. Each has its own result. A statement that may not go into a pipeline goes alone
 * between two parts, as a simple query, as a driver would send it: strings of several statements,
 * those the lexer is not sure about, and COPY. Transaction control is refused when it is added: it
 * is the caller's or the driver's.
 *
 * The first error ends the run: later statements are MIG_STATEMENT_ABORTED, and the transaction is
 * left as the server left it (failed). Parts are bounded by MIG_BATCH_PART_*, and the socket is
 * read while it is written, so that neither full buffers nor memory can stop it. Pipeline mode is
 * left however the run ends.
 *
 * Ownership: the caller owns the struct; statements are copied into its arena. Cost: O(bytes).
 */
#ifndef MIG_PQ_BATCH_H
#define MIG_PQ_BATCH_H

#include "core/arena.h"
#include "core/status.h"
#include "pq/session.h"

#define MIG_BATCH_PART_STATEMENTS ((size_t)4096)
#define MIG_BATCH_PART_BYTES ((size_t)4 * 1024 * 1024)
#define MIG_BATCH_NONE SIZE_MAX

typedef enum mig_statement_state {
    MIG_STATEMENT_PENDING, /* never sent */
    MIG_STATEMENT_OK,
    MIG_STATEMENT_ERROR,
    MIG_STATEMENT_ABORTED /* not executed, because of an error before it */
} mig_statement_state;

typedef struct mig_statement {
    const char *sql;
    size_t length;
    bool alone; /* not in a pipeline */
    mig_statement_state state;
    long long rows; /* affected; -1 where the tag has no number */
    char tag[MIG_TAG_SIZE];
} mig_statement;

typedef struct mig_batch {
    mig_arena arena;
    mig_statement *statements;
    size_t count;
    size_t capacity;
    bool beyond_ascii; /* a statement has a byte that only means something in UTF-8 */
    size_t failed;     /* index of the first error, or MIG_BATCH_NONE */
} mig_batch;

void mig_batch_init(mig_batch *batch, const mig_alloc *alloc);
void mig_batch_release(mig_batch *batch); /* leaves an empty batch that can be used again */

/* MIG_EINVAL: a zero byte. MIG_EDECLINED: transaction control. */
mig_status mig_batch_add(mig_batch *batch, const char *sql, size_t length, mig_error *error);

/* MIG_ESERVER: batch->failed and session->diagnostics say more. MIG_EDECLINED: nothing was sent, or
 * (with statements still pending) one of them ended the transaction. */
mig_status mig_batch_run(mig_batch *batch, mig_session *session, mig_error *error);

#endif
