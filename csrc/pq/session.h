/*
 * One connection to a server: our own, or one that a driver lends us. The only file that waits.
 *
 * Everything is non-blocking and poll(): each wait ends at least every MIG_TICK_MS and asks the
 * caller's hook whether to stop; then the running statement is cancelled on the server, what is in
 * flight is drained, and MIG_EINTR is returned. (Looking up a host name and PQcancel are libpq's
 * and do block.)
 *
 * A borrowed connection is the driver's. Between mig_session_enter and mig_session_leave, which
 * bracket each operation, it is ours; afterwards its non-blocking flag is as it was, pipeline mode
 * is left and nothing is in flight. If that cannot be had, its socket is shut down, so that the
 * driver sees a broken connection and never the answer to somebody else's question. It is never
 * closed, and its notice receiver stays.
 *
 * It is a lease: whenever others may have run (in a wait, in the caller's hook), the owner may have
 * closed the connection, which frees the PGconn. The hooks `wait_begins`, `wait_ends` and
 * `interrupted` tell of each such moment; after it the caller has set `conn` to NULL if the
 * connection is gone, and libpq, which takes a NULL PGconn for a closed connection, is not given
 * the old one again.
 *
 * Ownership: the caller owns the struct; it owns the PGconn unless borrowed. After a fork the
 * child's release leaves the connection to the parent. One thread at a time. The GIL is not known
 * here.
 */
#ifndef MIG_PQ_SESSION_H
#define MIG_PQ_SESSION_H

#include <stdbool.h>
#include <sys/types.h>

#include "core/arena.h"
#include "core/status.h"
#include "pq/libpq.h"

#define MIG_TICK_MS 200
/* How long we read on after a cancel before we give the connection up. */
#define MIG_DRAIN_MS 10000
#define MIG_NOTICES_MAX 1000
#define MIG_DIAGNOSTIC_FIELDS 18

/* What the server said about an error or a notice, copied out of a PGresult. */
typedef struct mig_diagnostics {
    char sqlstate[6]; /* "" when the connection broke */
    size_t count;
    int codes[MIG_DIAGNOSTIC_FIELDS]; /* PG_DIAG_* */
    const char *texts[MIG_DIAGNOSTIC_FIELDS];
    const char *message; /* all that libpq says, which an error may have cut; NULL: see the error */
    struct mig_diagnostics *next; /* in a list of notices */
} mig_diagnostics;

/* MIG_ENOMEM leaves *to empty. */
mig_status mig_diagnostics_copy(mig_diagnostics *to, const mig_libpq *pq, const PGresult *result,
                                mig_arena *arena);

/* Each may be NULL. `wait_begins` and `wait_ends` stand around everything that blocks: poll(), and
 * PQcancel. */
typedef struct mig_hook {
    bool (*interrupted)(void *ctx); /* true: stop */
    void (*wait_begins)(void *ctx);
    void (*wait_ends)(void *ctx);
    void *ctx;
} mig_hook;

typedef struct mig_session {
    mig_libpq pq;
    PGconn *conn;
    bool borrowed;
    bool was_nonblocking;
    bool unread; /* something was sent and not yet waited for */
    bool interrupted;
    pid_t pid;
    mig_hook hook;
    uint64_t waits;              /* times we stood still until the server answered */
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

/* `pq` is moved into the session, also when this fails. */
void mig_session_init(mig_session *session, mig_libpq *pq, const mig_alloc *alloc, mig_hook hook);
void mig_session_release(mig_session *session);

mig_status mig_session_borrow(mig_session *session, PGconn *conn, mig_error *error);

/* One simple query of any number of statements; `rows` (may be NULL) are those of the last one that
 * had any. COPY with the client is refused. MIG_ESERVER: see session->diagnostics. */
mig_status mig_session_query(mig_session *session, const char *sql, mig_arena *arena,
                             mig_rows *rows, mig_error *error);
/* The same, and the tag and number of rows of the last statement. */
#define MIG_TAG_SIZE 64
mig_status mig_session_execute(mig_session *session, const char *sql, char tag[MIG_TAG_SIZE],
                               long long *affected, mig_error *error);

/* Of our own session only: a driver's transaction is the driver's. */
mig_status mig_session_begin(mig_session *session, mig_error *error);
mig_status mig_session_commit(mig_session *session, mig_error *error);
mig_status mig_session_rollback(mig_session *session, mig_error *error);

bool mig_session_in_transaction(const mig_session *session);

/* Drops diagnostics and notices. */
void mig_session_forget(mig_session *session);

/* Whether it can be used now. MIG_EDECLINED while the driver is busy or in a pipeline. */
mig_status mig_session_check(mig_session *session, mig_error *error);

/* For the executor (batch.c). */
mig_status mig_session_enter(mig_session *session, mig_error *error);
void mig_session_leave(mig_session *session);
/* Until the socket can be read (or also written, if `writing`), and reads. When the hook says stop,
 * cancels on the server, sets session->interrupted and waits on, for what is in flight: MIG_EIO if
 * it does not come. */
mig_status mig_session_wait(mig_session *session, bool writing, mig_error *error);
/* Reads what is there without waiting. MIG_ESERVER: the connection is lost. */
mig_status mig_session_read(mig_session *session, mig_error *error);
/* Hands out what libpq has buffered, as far as the socket takes it: *pending says whether something
 * is left. */
mig_status mig_session_flush(mig_session *session, bool *pending, mig_error *error);
/* Sends it all, reading meanwhile. */
mig_status mig_session_flush_all(mig_session *session, mig_error *error);
/* The next result (NULL: end of those of one statement), waiting for it. */
mig_status mig_session_result(mig_session *session, PGresult **result, mig_error *error);
/* Fills diagnostics and `error` from a failed result, or from the connection if `result` is NULL.
 */
mig_status mig_session_failed(mig_session *session, const PGresult *result, mig_error *error);
/* As if the hook had said stop: cancels on the server; what is in flight is still to be read. */
void mig_session_stop(mig_session *session);
/* Makes the connection unusable for anybody. */
void mig_session_break(mig_session *session);

#endif
