/*
 * Many statements, few round trips: the executor over libpq's pipeline mode.
 *
 * Statements are queued and run in order on a session that is inside a transaction. Each has its
 * own result. They go out in segments; each ends with a Sync, and between two segments the
 * connection is out of pipeline mode. (mig_batch_send_rest adds statements, and one more Sync, to
 * the segment in flight: DRAINING -> SENDING.) The server holds its answers back until the end of a
 * segment (or 8 kB), except for a statement that is `prompt`. A statement is judged before it is
 * queued (mig_batch_judge), never afterwards: what is queued is sent once, in its order, or the
 * batch fails.
 *
 *    +--------------------- end_segment: all results are good ---------------------+
 *    v                                                                             |
 *   IDLE -- start_segment --> SENDING -- Sync is sent --> DRAINING -- its result --> SYNCED
 *    ^                           |                            |                    |
 *    |                           | the connection was cut     |                    | an error,
 *    |                           v                            v                    v interrupted
 *    +-- mig_batch_release -- FAILED <---------------------------------------------+
 *
 * While the state is SENDING, DRAINING or SYNCED the session is entered and in pipeline mode: the
 * connection must not be used otherwise. FAILED: the first error is reported, nothing more is sent,
 * the transaction is as the server left it, and the connection can be used again. Segments are
 * bounded by MIG_BATCH_SEGMENT_*, and the socket is read while it is written, so that full buffers
 * cannot block both sides.
 *
 * Ownership: the caller owns the struct, which owns copies of the statements until they are sent.
 * One thread at a time. GIL: see session.h. Cost: O(bytes). Layer: above session.h.
 */
#ifndef MIG_PQ_BATCH_H
#define MIG_PQ_BATCH_H

#include "core/arena.h"
#include "core/status.h"
#include "pq/session.h"

#define MIG_BATCH_SEGMENT_STATEMENTS ((size_t)4096)
#define MIG_BATCH_SEGMENT_BYTES ((size_t)4 * 1024 * 1024)
#define MIG_BATCH_NONE SIZE_MAX

typedef enum mig_statement_state {
    MIG_STATEMENT_PENDING, /* never sent, or not answered */
    MIG_STATEMENT_OK,
    MIG_STATEMENT_ERROR,
    MIG_STATEMENT_ABORTED /* not executed, because of an error before it */
} mig_statement_state;

/* The parameters of a statement, as PQsendQueryParams takes them; a NULL value is SQL's NULL, and
 * `lengths` has that of each other value. All zeros: none. */
typedef struct mig_batch_params {
    int count;
    const Oid *types;
    const char *const *values;
    const int *lengths;
    const int *formats;
} mig_batch_params;

typedef struct mig_statement {
    char *sql;     /* NULL once it was sent */
    size_t length; /* of the text and its parameters */
    mig_batch_params params;
    bool needs_simple_query; /* not in a pipeline */
    bool begins;             /* opens the transaction: mig_batch_add_begin */
    bool prompt;             /* the server sends its result, and those before it, at once */
    bool is_ascii;           /* the same bytes in each client_encoding that may be used */
    mig_statement_state state;
    long long rows; /* affected; -1 where the tag has no number */
    char tag[MIG_TAG_SIZE];
} mig_statement;

typedef enum mig_batch_state {
    MIG_BATCH_IDLE,     /* nothing is in flight */
    MIG_BATCH_SENDING,  /* a segment is being handed to libpq */
    MIG_BATCH_DRAINING, /* its Sync was handed over, too: results are still to come */
    MIG_BATCH_SYNCED,   /* answered in full */
    MIG_BATCH_FAILED
} mig_batch_state;

/* The settings of a session that decide how a text is read; the server reports changes. */
typedef struct mig_batch_facts {
    char client_encoding[32];
    bool standard_conforming_strings;
} mig_batch_facts;

/* Indexes are into `statements`; sequence numbers count from 1 and stay when statements are
 * dropped. */
typedef struct mig_batch {
    const mig_alloc *alloc;
    mig_batch_state state;
    mig_statement *statements;
    size_t head; /* those before it were dropped */
    size_t count;
    size_t capacity;
    size_t failed; /* the first error, or MIG_BATCH_NONE */
    size_t done;   /* the next one whose result will come */
    size_t sent;   /* the next one to send */
    size_t last;   /* end of the segment in flight */
    size_t unsent_bytes;
    uint64_t segments;       /* sent so far */
    unsigned syncs;          /* those of the segment in flight that are to be answered */
    bool has_transaction;    /* the segment in flight began inside one */
    bool socket_is_full;     /* wait until it can be written, too */
    bool answered;           /* there was a result for `done`; its end has not come */
    uint64_t moved;          /* sequence number of statements[i]: moved + i + 1 */
    uint64_t ended;          /* of the last statement whose segment has ended */
    uint64_t last_changing;  /* of the last one that may change the facts */
    uint64_t last_depending; /* of the last one that depends on them */
    mig_batch_facts facts;   /* at the start of the segment in flight */
    /* The first failure that the server reported: it says more than what libpq reports about a
     * connection that is lost afterwards. */
    mig_status failure;
    mig_error failure_error;
    mig_diagnostics diagnostics;
} mig_batch;

/* Make an empty batch, IDLE. `alloc` must outlive it. */
void mig_batch_init(mig_batch *batch, const mig_alloc *alloc);

/* Free all statements and leave an empty batch, IDLE, that can be used again. Nothing may be in
 * flight. */
void mig_batch_release(mig_batch *batch);

typedef enum mig_batch_fit {
    MIG_BATCH_FITS,
    MIG_BATCH_FITS_LATER, /* judge it again when what was queued is confirmed */
    MIG_BATCH_FITS_NOT    /* it goes the driver's way: `why` says why */
} mig_batch_fit;

#define MIG_BATCH_REASON_SIZE 64

/*
 * Whether one statement, as the driver would send it, may be queued now: it is the only one in its
 * text, its command is on the list, and its bytes are what the driver would send. begins: a BEGIN
 * will be queued before it, in an empty batch. why: filled with a few words for FITS_NOT.
 *
 * Reads the session's parameters, whose connection may be NULL; changes nothing, sends nothing,
 * never blocks.
 */
mig_batch_fit mig_batch_judge(const mig_batch *batch, const mig_session *session, const char *sql,
                              size_t length, bool begins, char why[MIG_BATCH_REASON_SIZE]);

/*
 * Queue a copy of a statement that mig_batch_judge has just said to fit. changes_nothing: the
 * caller knows that it changes none of the facts (a version row, a query about the lock).
 *
 * MIG_OK. MIG_EINVAL: a NUL byte. MIG_ENOMEM. After a failure the batch is as before. Sends
 * nothing.
 */
mig_status mig_batch_add_judged(mig_batch *batch, const char *sql, size_t length,
                                bool changes_nothing, mig_error *error);

/* The same two for a statement with parameters, which is copied with them. */
mig_batch_fit mig_batch_judge_params(const mig_batch *batch, const mig_session *session,
                                     const char *sql, size_t length, const mig_batch_params *params,
                                     bool begins, char why[MIG_BATCH_REASON_SIZE]);
mig_status mig_batch_add_params(mig_batch *batch, const char *sql, size_t length,
                                const mig_batch_params *params, bool changes_nothing,
                                mig_error *error);

/*
 * Queue a copy of a text of any kind, for mig_batch_run or mig_batch_wait on our own session. What
 * does not fit into a pipeline (several statements, what the lexer is not sure about, COPY) is
 * marked needs_simple_query, and is sent by itself between two segments.
 *
 * MIG_OK. MIG_EINVAL: a NUL byte. MIG_EDECLINED: transaction control. MIG_ENOMEM. After a failure
 * the batch is as before. Sends nothing.
 */
mig_status mig_batch_add(mig_batch *batch, const char *sql, size_t length, mig_error *error);

/* Queue the driver's own BEGIN, first in an empty batch, where the driver would send it now.
 * MIG_EINVAL: the batch is not empty. Else as mig_batch_add_judged. */
mig_status mig_batch_add_begin(mig_batch *batch, const char *sql, mig_error *error);

/* Take back the last `count` statements, which were added and not sent. */
void mig_batch_pop(mig_batch *batch, size_t count);

/*
 * Send what can be sent and read the results that are there, without waiting. Starts no statement
 * that needs a simple query. `error` may be NULL here and in the next four.
 *
 * MIG_OK: the state is IDLE, SENDING or DRAINING. MIG_ESERVER: a statement or the connection
 * failed; batch->failed and session->diagnostics say more. MIG_EINTR: the hook said stop, and the
 * server was asked to cancel. MIG_EINTERNAL: the connection is not as it was when the statements
 * were queued. MIG_EINVAL: not in a transaction, closed, or it belongs to the parent of this
 * process. MIG_EIO, MIG_ENOMEM. After a failure the state is FAILED. Never MIG_EDECLINED.
 */
mig_status mig_batch_poll(mig_batch *batch, mig_session *session, mig_error *error);

/*
 * As mig_batch_poll, for a caller that is about to wait for everything: what is queued behind the
 * segment in flight is sent at once, as part of it.
 *
 * If a statement before the added ones fails, the server executes those, too, in a transaction that
 * has failed, which rejects all of them. So nothing is added to a segment that itself begins the
 * transaction; no statement that is judged to fit can end one.
 */
mig_status mig_batch_send_rest(mig_batch *batch, mig_session *session, mig_error *error);

/* As mig_batch_poll, but block until all statements have run: then the state is IDLE. */
mig_status mig_batch_run(mig_batch *batch, mig_session *session, mig_error *error);

/* As mig_batch_poll, but block until there is a result that was not there before, or all have run.
 */
mig_status mig_batch_wait(mig_batch *batch, mig_session *session, mig_error *error);

/* As mig_batch_poll, but block until mig_batch_is_full is false; returns at once if it is. */
mig_status mig_batch_make_room(mig_batch *batch, mig_session *session, mig_error *error);

/* Cancel what runs on the server, and block until the segment has ended, MIG_DRAIN_MS at most.
 * Nothing more is sent. Afterwards nothing is in flight. */
void mig_batch_abandon(mig_batch *batch, mig_session *session);

/* The same for a caller that must not wait, after mig_session_stop: reads what is there. False when
 * nothing is in flight any more. give_up: break the connection instead of waiting for the server.
 */
bool mig_batch_drain(mig_batch *batch, mig_session *session, bool give_up);

/* Whether a segment is in flight: then the connection must not be used otherwise. */
bool mig_batch_in_flight(const mig_batch *batch);

/* Whether more is queued than one segment holds: time to wait. */
bool mig_batch_is_full(const mig_batch *batch);

/* The end of the statements whose results are there and good. The last one of a segment is held
 * back until the segment has ended: a caller that has all results assumes that the connection is
 * idle. */
size_t mig_batch_good(const mig_batch *batch);

/* Forget the first `count` statements, whose results must be there. */
void mig_batch_drop(mig_batch *batch, size_t count);

#endif
