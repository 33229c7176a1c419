/*
 * One connection to a server: our own, or one borrowed from a driver. The only file that waits for
 * a server that is connected.
 *
 * Everything is non-blocking and poll(): each wait ends at least every MIG_TICK_MS and asks the
 * caller's hook whether to stop; then the running statement is cancelled on the server, what is in
 * flight is drained, and MIG_EINTR is returned. (PQcancel is libpq's and blocks.)
 *
 * A borrowed connection is entered for each operation and left after it (mig_session_enter,
 * mig_session_leave): then its non-blocking flag is as it was, pipeline mode is left, and nothing
 * is in flight. If that cannot be had, its socket is shut down, so that the driver sees a broken
 * connection and never another query's answer. It is never closed, and its notice receiver stays.
 *
 * Whenever other code may have run (in a wait, in the caller's hook), the owner may have closed the
 * connection, which frees the PGconn. The hooks `wait_begins`, `wait_ends` and `interrupted` report
 * each such moment; the caller then sets `conn` to NULL if the connection is gone, which libpq
 * takes for a closed connection.
 *
 * Ownership: the caller owns the struct; it owns the PGconn unless borrowed. After a fork the
 * child's release leaves the connection to the parent. One thread at a time. The GIL is not known
 * here. Layer: above libpq.h.
 */
#ifndef MIG_PQ_SESSION_H
#define MIG_PQ_SESSION_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/arena.h"
#include "core/status.h"
#include "pq/libpq.h"

#define MIG_TICK_MS 200
/* How long to read on after a cancel before the connection is broken. */
#define MIG_DRAIN_MS 10000
#define MIG_CANCEL_AGAIN_MS 1000
#define MIG_NOTICES_MAX 1000
#define MIG_DIAGNOSTIC_FIELDS 18

/* The fields of an error or a notice, copied out of a PGresult. */
typedef struct mig_diagnostics {
    char sqlstate[6]; /* "" when the connection broke */
    size_t count;
    int codes[MIG_DIAGNOSTIC_FIELDS]; /* PG_DIAG_* */
    const char *texts[MIG_DIAGNOSTIC_FIELDS];
    const char *message; /* the whole message of libpq, which mig_error may have cut; NULL: see the
                            mig_error */
    struct mig_diagnostics *next; /* in a list of notices */
} mig_diagnostics;

/* Copy the fields of an error or a notice to *to, with texts in `arena`. MIG_OK, or MIG_ENOMEM with
 * *to empty. */
mig_status mig_diagnostics_copy(mig_diagnostics *to, const mig_libpq *pq, const PGresult *result,
                                mig_arena *arena);

/* Callbacks of the session's owner; each may be NULL. wait_begins and wait_ends are called around
 * everything that blocks: poll(), and PQcancel. */
typedef struct mig_hook {
    bool (*interrupted)(void *ctx); /* true: stop */
    void (*wait_begins)(void *ctx);
    void (*wait_ends)(void *ctx);
    void *ctx;
} mig_hook;

typedef struct mig_session {
    mig_libpq pq;
    PGconn *conn;
    bool borrowed;        /* from the beginning to the end */
    bool was_nonblocking; /* between enter and leave: the flag to put back */
    bool unread;          /* of an operation: something was sent and not yet waited for */
    bool interrupted;     /* of an operation: the hook said stop */
    int64_t cancel_again; /* of an operation: when to ask the server again to stop; 0: it was not
                             asked */
    pid_t pid;
    mig_hook hook;
    uint64_t waits;              /* times that a call waited for the server */
    uint64_t sent, confirmed;    /* statements of batches: handed to libpq, good results */
    mig_arena arena;             /* diagnostics and notices; emptied by mig_session_forget */
    mig_diagnostics diagnostics; /* of the last MIG_ESERVER */
    mig_diagnostics *notices, *last_notice;
    size_t notice_count; /* those beyond MIG_NOTICES_MAX are only counted */
} mig_session;

/* Text format; NULL values are NULL. In the arena that the caller gave. */
typedef struct mig_rows {
    size_t rows;
    size_t columns;
    const char **values; /* row by row */
} mig_rows;

/* Make a session without a connection. *pq is moved into it and left as zeros. `alloc` must outlive
 * it. */
void mig_session_init(mig_session *session, mig_libpq *pq, const mig_alloc *alloc, mig_hook hook);

/* Close the connection, unless it is borrowed or of the parent of a fork, and free everything. May
 * be called again. */
void mig_session_release(mig_session *session);

/* Borrow a driver's connection, which must outlive its use here. MIG_OK; MIG_ECONNECT: it is closed
 * or broken, and was not borrowed. Never blocks. */
mig_status mig_session_borrow(mig_session *session, PGconn *conn, mig_error *error);

/*
 * Send a simple query of any number of statements. *rows (may be NULL): those of the last one that
 * had any, in `arena`. COPY with the client is refused.
 *
 * MIG_OK. MIG_ESERVER: the first error, see session->diagnostics; the rest of the query was not
 * executed, or the connection broke. MIG_EINTR: the hook said stop, and the statement was
 * cancelled. MIG_EINVAL: closed, of the parent of a fork, or COPY. MIG_EDECLINED: the driver is
 * busy or in a pipeline; nothing was sent. MIG_EIO: the connection is broken. MIG_ENOMEM. Blocks.
 */
mig_status mig_session_query(mig_session *session, const char *sql, mig_arena *arena,
                             mig_rows *rows, mig_error *error);

#define MIG_TAG_SIZE 64

/* As mig_session_query, without rows; gives the command tag of the last statement, and the number
 * of rows that it affected, or -1. */
mig_status mig_session_execute(mig_session *session, const char *sql, char tag[MIG_TAG_SIZE],
                               long long *affected, mig_error *error);

/* BEGIN on our own session. As mig_session_query; MIG_EINVAL also for a borrowed connection, whose
 * transaction is the driver's. */
mig_status mig_session_begin(mig_session *session, mig_error *error);

/* COMMIT, as mig_session_begin. MIG_EINVAL also where the server rolled back instead. */
mig_status mig_session_commit(mig_session *session, mig_error *error);

/* ROLLBACK, as mig_session_begin. */
mig_status mig_session_rollback(mig_session *session, mig_error *error);

/* Whether a transaction is open and has not failed. Never blocks. */
bool mig_session_in_transaction(const mig_session *session);

/* Drop diagnostics and notices. */
void mig_session_forget(mig_session *session);

/* Whether the connection can be used now, without sending anything. MIG_OK; MIG_EDECLINED while the
 * driver is busy or in a pipeline; MIG_EINVAL: closed, or of the parent of a fork; MIG_ESERVER: it
 * is broken. */
mig_status mig_session_check(mig_session *session, mig_error *error);

/* For batch.c ---------------------------------------------------------------------------------- */

/* Begin an operation: as mig_session_check, then set non-blocking mode. mig_session_leave must
 * follow, only after MIG_OK. */
mig_status mig_session_enter(mig_session *session, mig_error *error);

/* End the operation: leave pipeline mode, breaking the connection if that fails, and put the
 * non-blocking flag back. */
void mig_session_leave(mig_session *session);

/*
 * Block until the socket can be read (or also written, if `writing`), and read. When the hook says
 * stop, cancel on the server, set session->interrupted, and wait on for what is in flight.
 *
 * MIG_OK. MIG_ESERVER: the connection is lost. MIG_EIO: poll failed, or the server did not answer
 * within MIG_DRAIN_MS after the cancel.
 */
mig_status mig_session_wait(mig_session *session, bool writing, mig_error *error);

/* Read what is there without waiting. MIG_OK; MIG_ESERVER: the connection is lost. */
mig_status mig_session_read(mig_session *session, mig_error *error);

/* Send what libpq has buffered, as far as the socket takes it without waiting. *pending: whether
 * something is left. MIG_OK; MIG_ESERVER: the connection is lost. */
mig_status mig_session_flush(mig_session *session, bool *pending, mig_error *error);

/* Send it all, reading meanwhile. Blocks; statuses of mig_session_wait. */
mig_status mig_session_flush_all(mig_session *session, mig_error *error);

/* *result = the next result, which the caller clears, or NULL at the end of those of one statement.
 * Blocks; statuses of mig_session_wait, with *result NULL. */
mig_status mig_session_result(mig_session *session, PGresult **result, mig_error *error);

/* Fill session->diagnostics and `error` from a failed result, or from the connection if `result` is
 * NULL. Returns MIG_ESERVER, or MIG_ENOMEM. */
mig_status mig_session_failed(mig_session *session, const PGresult *result, mig_error *error);

/* As if the hook had said stop: cancel on the server. What is in flight is still to be read. */
void mig_session_stop(mig_session *session);

/* Make the connection unusable for everybody, by shutting its socket down. Never blocks. */
void mig_session_break(mig_session *session);

#endif
