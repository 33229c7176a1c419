/*
 * Many statements, few waits: the executor over libpq's pipeline mode.
 *
 * Statements are added and run in order on a session that is inside a transaction, looked at before
 * each part. Each has its own result. mig_batch_poll sends what there is as soon as the server is
 * idle, reads what has come, and never waits: the caller prepares the next statements meanwhile.
 * mig_batch_run waits until all is done, mig_batch_wait until there is something new to hear,
 * mig_batch_make_room until little enough is left. The server keeps its answers back until the end
 * of a part (or 8 kB), except for a statement that is `prompt`.
 *
 * Between the calls a part may be in flight: then the session is entered, in pipeline mode, and
 * nobody else may use the connection. mig_batch_run, mig_batch_abandon and mig_batch_drain end
 * that; after a failure it is ended, too.
 *
 * A statement that may not go into a pipeline goes alone between two parts, as a simple query, as a
 * driver would send it: strings of several statements, those the lexer is not sure about, and COPY.
 * Only mig_batch_run and mig_batch_wait send those. Transaction control is refused when it is
 * added.
 *
 * The first error ends the batch: later statements are MIG_STATEMENT_ABORTED, and the transaction
 * is left as the server left it (failed). Parts are bounded by MIG_BATCH_PART_*, and the socket is
 * read while it is written, so that neither full buffers nor memory can stop it.
 *
 * Ownership: the caller owns the struct, which owns copies of the statements until they are sent.
 * One thread at a time. Cost: O(bytes).
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
    char *sql; /* NULL once it was sent */
    size_t length;
    bool alone;        /* not in a pipeline */
    bool begins;       /* opens the transaction: mig_batch_add_begin */
    bool prompt;       /* its result, and those before it, are sent at once */
    bool beyond_ascii; /* has a byte that only means something in UTF-8 */
    mig_statement_state state;
    long long rows; /* affected; -1 where the tag has no number */
    char tag[MIG_TAG_SIZE];
} mig_statement;

/* All indexes are into `statements`. */
typedef struct mig_batch {
    const mig_alloc *alloc;
    mig_statement *statements;
    size_t head; /* those before it were dropped */
    size_t count;
    size_t capacity;
    size_t failed; /* the first error, or MIG_BATCH_NONE */
    size_t done;   /* the next one to hear about */
    size_t sent;   /* the next one to send */
    size_t last;   /* end of the part in flight */
    size_t unsent_bytes;
    uint64_t parts; /* sent so far */
    bool ran;       /* something was sent */
    bool flying;    /* a part is in flight */
    bool writing;   /* the socket was full: wait until it can be written, too */
    bool answered;  /* there was a result for `done` */
    bool sync_sent;
    bool synced;
    /* The first failure that the server told; what libpq says about the line afterwards is less. */
    mig_status failure;
    mig_error failure_error;
    mig_diagnostics diagnostics;
} mig_batch;

void mig_batch_init(mig_batch *batch, const mig_alloc *alloc);
/* Leaves an empty batch that can be used again. Nothing may be in flight. */
void mig_batch_release(mig_batch *batch);

/* MIG_EINVAL: a zero byte. MIG_EDECLINED: transaction control. */
mig_status mig_batch_add(mig_batch *batch, const char *sql, size_t length, mig_error *error);
/* The driver's own BEGIN, first in an empty batch, where the driver would send it now. */
mig_status mig_batch_add_begin(mig_batch *batch, const char *sql, mig_error *error);

/* What mig_batch_poll and the others may answer: MIG_ESERVER: batch->failed and
 * session->diagnostics say more. MIG_EINTR. MIG_EINVAL: not in a transaction. MIG_EDECLINED:
 * nothing was sent, or (with statements still pending) one of them ended the transaction. */
mig_status mig_batch_poll(mig_batch *batch, mig_session *session, mig_error *error);
mig_status mig_batch_run(mig_batch *batch, mig_session *session, mig_error *error);
mig_status mig_batch_wait(mig_batch *batch, mig_session *session, mig_error *error);
mig_status mig_batch_make_room(mig_batch *batch, mig_session *session, mig_error *error);

/* Cancels what runs and ends the part in flight; sends nothing more. */
void mig_batch_abandon(mig_batch *batch, mig_session *session);
/* The end of it for who must not stand still, after mig_session_stop: reads what is there. False
 * when nothing is in flight any more. give_up: cuts the line instead of hearing the server out. */
bool mig_batch_drain(mig_batch *batch, mig_session *session, bool give_up);

/* More is waiting to be sent than one part holds: time to wait. */
bool mig_batch_is_full(const mig_batch *batch);

/* The end of those whose results are there and good. While a failed part is still on its way, what
 * comes after the failure counts as not yet heard of; so does the last of a part before its end. */
size_t mig_batch_good(const mig_batch *batch);
/* Takes back the last `count` statements that were added and not sent. */
void mig_batch_pop(mig_batch *batch, size_t count);
/* Forgets the first `count` statements, whose results are there. */
void mig_batch_drop(mig_batch *batch, size_t count);

#endif
