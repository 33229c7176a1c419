#include "pq/batch_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void mig_batch_init(mig_batch *batch, const mig_alloc *alloc)
{
    memset(batch, 0, sizeof *batch);
    batch->alloc = alloc;
    batch->failed = MIG_BATCH_NONE;
}

static void release_text(mig_batch *batch, mig_statement *statement)
{
    batch->alloc->release(batch->alloc->ctx, statement->sql);
    statement->sql = NULL;
    mig_batch_release_params(batch->alloc, &statement->params);
}

void mig_batch_release(mig_batch *batch)
{
    const mig_alloc *alloc = batch->alloc;
    for (size_t i = batch->head; i < batch->count; i++)
        release_text(batch, &batch->statements[i]);
    alloc->release(alloc->ctx, batch->statements);
    mig_batch_init(batch, alloc);
}

static mig_status grow(mig_batch *batch, mig_error *error)
{
    const mig_alloc *alloc = batch->alloc;
    if (batch->capacity > SIZE_MAX / 4)
        return mig_fail_memory(error);
    size_t capacity = batch->capacity == 0 ? 16 : batch->capacity * 2;
    mig_statement *statements = mig_alloc_array(alloc, capacity, sizeof *statements);
    if (statements == NULL)
        return mig_fail_memory(error);
    if (batch->count > 0)
        memcpy(statements, batch->statements, batch->count * sizeof *statements);
    alloc->release(alloc->ctx, batch->statements);
    batch->statements = statements;
    batch->capacity = capacity;
    return MIG_OK;
}

void mig_batch_drop(mig_batch *batch, size_t count)
{
    for (size_t i = 0; i < count; i++)
        release_text(batch, &batch->statements[batch->head + i]);
    batch->head += count;
    /* Move the rest to the front when half is gone: each statement is moved once on average. */
    size_t gone = batch->head;
    if (gone == 0 || gone < batch->count - gone)
        return;
    batch->count -= gone;
    batch->moved += gone;
    memmove(batch->statements, batch->statements + gone, batch->count * sizeof *batch->statements);
    batch->head = 0;
    batch->done -= gone;
    batch->sent -= gone;
    batch->last = batch->last > gone ? batch->last - gone : 0;
    if (batch->failed != MIG_BATCH_NONE)
        batch->failed -= gone;
}

size_t mig_batch_good(const mig_batch *batch)
{
    size_t good = batch->done < batch->failed ? batch->done : batch->failed;
    return mig_batch_in_flight(batch) && good == batch->last ? good - 1 : good;
}

void mig_batch_pop(mig_batch *batch, size_t count)
{
    for (; count > 0; count--) {
        mig_statement *statement = &batch->statements[--batch->count];
        batch->unsent_bytes -= statement->length;
        release_text(batch, statement);
    }
}

/* Appends a copy. MIG_EINVAL: a zero byte, at which libpq would end the text. */
static mig_status append(mig_batch *batch, const char *sql, size_t length,
                         const mig_batch_params *params, const mig_batch_text *text,
                         mig_error *error)
{
    mig_batch_params copies;
    size_t bytes;
    if (text->has_zero)
        return mig_fail(error, MIG_EINVAL, "a statement holds a zero byte");
    if (batch->count == batch->capacity) {
        MIG_TRY(grow(batch, error));
    }
    char *copy = length < SIZE_MAX ? batch->alloc->allocate(batch->alloc->ctx, length + 1) : NULL;
    if (copy == NULL)
        return mig_fail_memory(error);
    if (length > 0)
        memcpy(copy, sql, length);
    copy[length] = '\0';
    mig_status status = mig_batch_copy_params(batch->alloc, params, &copies, &bytes, error);
    if (status != MIG_OK) {
        batch->alloc->release(batch->alloc->ctx, copy);
        return status;
    }
    mig_statement *statement = &batch->statements[batch->count++];
    memset(statement, 0, sizeof *statement);
    statement->sql = copy;
    statement->length = length + bytes;
    statement->params = copies;
    statement->rows = -1;
    statement->is_ascii = text->is_ascii;
    batch->unsent_bytes += statement->length;
    return MIG_OK;
}

/* Appends a text, and notes what it has to do with the facts. */
static mig_status add(mig_batch *batch, const char *sql, size_t length,
                      const mig_batch_params *params, const mig_batch_text *text,
                      bool changes_nothing, mig_error *error)
{
    MIG_TRY(append(batch, sql, length, params, text, error));
    uint64_t number = batch->moved + batch->count;
    if (!text->is_ascii || text->depends_on_strings)
        batch->last_depending = number;
    if (!changes_nothing && mig_batch_may_change_facts(&text->info))
        batch->last_changing = number;
    return MIG_OK;
}

mig_status mig_batch_add_judged(mig_batch *batch, const char *sql, size_t length,
                                bool changes_nothing, mig_error *error)
{
    return mig_batch_add_params(batch, sql, length, NULL, changes_nothing, error);
}

mig_status mig_batch_add_params(mig_batch *batch, const char *sql, size_t length,
                                const mig_batch_params *params, bool changes_nothing,
                                mig_error *error)
{
    mig_batch_text text = mig_batch_read_text(sql, length, params);
    return add(batch, sql, length, params, &text, changes_nothing, error);
}

mig_status mig_batch_add(mig_batch *batch, const char *sql, size_t length, mig_error *error)
{
    mig_batch_text text = mig_batch_read_text(sql, length, NULL);
    if (mig_sql_changes_transaction(&text.info))
        return mig_fail(error, MIG_EDECLINED, "%s changes the transaction", text.info.keyword);
    MIG_TRY(add(batch, sql, length, NULL, &text, false, error));
    batch->statements[batch->count - 1].needs_simple_query =
        text.depends_on_strings || text.info.kind == MIG_SQL_SEVERAL ||
        text.info.kind == MIG_SQL_UNSURE || strcmp(text.info.keyword, "COPY") == 0;
    return MIG_OK;
}

mig_status mig_batch_add_begin(mig_batch *batch, const char *sql, mig_error *error)
{
    if (batch->head != batch->count)
        return mig_fail(error, MIG_EINVAL, "a transaction cannot begin in the middle of a batch");
    mig_batch_text text = mig_batch_read_text(sql, strlen(sql), NULL);
    MIG_TRY(append(batch, sql, strlen(sql), NULL, &text, error));
    batch->statements[batch->count - 1].begins = true;
    return MIG_OK;
}

bool mig_batch_is_full(const mig_batch *batch)
{
    return batch->unsent_bytes > MIG_BATCH_SEGMENT_BYTES ||
           batch->count - batch->sent > MIG_BATCH_SEGMENT_STATEMENTS;
}

static void take_failure(mig_batch *batch, mig_session *session, const PGresult *result)
{
    if (batch->failure != MIG_OK)
        return;
    mig_diagnostics before = session->diagnostics; /* of the connection, if it was broken */
    batch->failure = mig_session_failed(session, result, &batch->failure_error);
    batch->diagnostics = session->diagnostics;
    session->diagnostics = before;
}

static void take_result(mig_batch *batch, mig_session *session, PGresult *result)
{
    const mig_libpq *pq = &session->pq;
    int state = (int)pq->PQresultStatus(result);
    if (state == MIG_PGRES_PIPELINE_SYNC) {
        batch->syncs--;
        if (batch->syncs == 0 && batch->state == MIG_BATCH_DRAINING)
            batch->state = MIG_BATCH_SYNCED;
        return;
    }
    if (batch->done >= batch->sent) {
        /* The server sent a message that answers no statement, such as its shutdown. */
        take_failure(batch, session, result);
        return;
    }
    mig_statement *statement = &batch->statements[batch->done];
    batch->answered = true;
    if (state == MIG_PGRES_PIPELINE_ABORTED) {
        statement->state = MIG_STATEMENT_ABORTED;
    } else if (state == PGRES_COMMAND_OK || state == PGRES_TUPLES_OK ||
               state == PGRES_EMPTY_QUERY) {
        const char *rows = pq->PQcmdTuples(result), *tag = pq->PQcmdStatus(result);
        size_t length = strlen(tag) < MIG_TAG_SIZE ? strlen(tag) : MIG_TAG_SIZE - 1;
        statement->state = MIG_STATEMENT_OK;
        statement->rows = *rows != '\0' ? strtoll(rows, NULL, 10) : -1;
        memcpy(statement->tag, tag, length);
        statement->tag[length] = '\0';
        session->confirmed++;
    } else {
        /* After a failure: its transaction rejected the statement. */
        statement->state = batch->failure == MIG_OK ? MIG_STATEMENT_ERROR : MIG_STATEMENT_ABORTED;
        if (batch->failure == MIG_OK)
            batch->failed = batch->done;
        take_failure(batch, session, result);
        /* libpq can end no COPY in a pipeline. The lexer keeps COPY out; this is the last resort.
         */
        if (state == PGRES_COPY_IN || state == PGRES_COPY_OUT || state == PGRES_COPY_BOTH)
            mig_session_break(session);
    }
}

/* Takes what is there without waiting. */
static void take_results(mig_batch *batch, mig_session *session)
{
    const mig_libpq *pq = &session->pq;
    bool ended = false;
    while (batch->state != MIG_BATCH_SYNCED && !pq->PQisBusy(session->conn)) {
        PGresult *result = pq->PQgetResult(session->conn);
        if (result != NULL) {
            take_result(batch, session, result);
            pq->PQclear(result);
            ended = false;
        } else if (batch->answered) {
            batch->answered = false;
            batch->done++;
            ended = false;
        } else if (ended) {
            return; /* nothing more is there */
        } else {
            ended = true;
        }
    }
}

/* Hands statements to libpq until they are all sent or the socket is full. */
static mig_status send_some(mig_batch *batch, mig_session *session, mig_error *error)
{
    const mig_libpq *pq = &session->pq;
    mig_status status = mig_session_flush(session, &batch->socket_is_full, error);
    while (status == MIG_OK && !batch->socket_is_full && batch->state == MIG_BATCH_SENDING) {
        bool stop = batch->failure != MIG_OK || session->interrupted;
        if (batch->sent < batch->last && !stop) {
            mig_statement *statement = &batch->statements[batch->sent];
            const mig_batch_params *params = &statement->params;
            if (!pq->PQsendQueryParams(session->conn, statement->sql, params->count, params->types,
                                       params->values, params->lengths, params->formats, 0))
                return mig_session_failed(session, NULL, error);
            if (statement->prompt && !pq->PQsendFlushRequest(session->conn))
                return mig_session_failed(session, NULL, error);
            release_text(batch, statement);
            batch->unsent_bytes -= statement->length;
            batch->sent++;
            session->sent++;
            session->unread = true;
            /* What libpq has not written yet stays in its buffer: flush often, so that it stays
             * small. */
            if (batch->sent % 64 == 0 || statement->length > 8192)
                status = mig_session_flush(session, &batch->socket_is_full, error);
        } else {
            if (!pq->PQpipelineSync(session->conn))
                return mig_session_failed(session, NULL, error);
            batch->syncs++;
            batch->state = MIG_BATCH_DRAINING;
            session->unread = true;
            status = mig_session_flush(session, &batch->socket_is_full, error);
        }
    }
    return status;
}

static size_t end_of_segment(const mig_batch *batch)
{
    size_t first = batch->sent, i = first, bytes = 0;
    while (i < batch->count && !batch->statements[i].needs_simple_query &&
           i - first < MIG_BATCH_SEGMENT_STATEMENTS) {
        if (i > first && batch->statements[i].length > MIG_BATCH_SEGMENT_BYTES - bytes)
            break;
        bytes += batch->statements[i].length;
        i++;
        if (bytes >= MIG_BATCH_SEGMENT_BYTES)
            break;
    }
    return i;
}

/* A failure before the next statement was handed to libpq: no more will be. */
static mig_status fail(mig_batch *batch, mig_status status)
{
    if (status != MIG_OK)
        batch->state = MIG_BATCH_FAILED;
    return status;
}

/* The connection must be as it was when the statements were queued. */
static mig_status check_connection(const mig_batch *batch, mig_session *session, mig_error *error)
{
    mig_status status = mig_session_check(session, error);
    if (status == MIG_EDECLINED)
        return mig_fail(error, MIG_EINTERNAL,
                        "somebody used the connection while statements waited to be sent on it");
    if (status != MIG_OK)
        return status;
    bool begins = batch->statements[batch->sent].begins;
    PGTransactionStatusType now = session->pq.PQtransactionStatus(session->conn);
    if (now == (begins ? PQTRANS_IDLE : PQTRANS_INTRANS))
        return MIG_OK;
    if (batch->moved + batch->sent == 0)
        return mig_fail(error, MIG_EINVAL, "not in a transaction");
    return mig_fail(error, MIG_EINTERNAL,
                    "the transaction was ended while statements waited to be sent in it");
}

/* Whether the server reads the next statements, up to `last`, as we wrote them. */
static bool are_readable(const mig_batch *batch, size_t last, const mig_batch_facts *facts)
{
    for (size_t i = batch->sent; i < last; i++)
        if (!mig_batch_is_readable(facts, batch->statements[i].is_ascii))
            return false;
    return true;
}

static mig_status start_segment(mig_batch *batch, mig_session *session, mig_error *error)
{
    const mig_libpq *pq = &session->pq;
    MIG_TRY(check_connection(batch, session, error));
    if (!pq->has_pipeline)
        return mig_fail(error, MIG_EINTERNAL, "this libpq (%d) has no pipelines", pq->version);
    size_t last = end_of_segment(batch);
    mig_batch_facts facts = mig_batch_facts_of(session);
    if (!are_readable(batch, last, &facts))
        return mig_fail(error, MIG_EINTERNAL,
                        "client_encoding became %s while statements waited to be sent",
                        facts.client_encoding);
    MIG_TRY(mig_session_enter(session, error));
    if (!pq->PQenterPipelineMode(session->conn)) {
        mig_status status = mig_session_failed(session, NULL, error);
        mig_session_leave(session);
        return status;
    }
    batch->facts = facts;
    batch->last = last;
    batch->segments++;
    batch->syncs = 0;
    batch->has_transaction = !batch->statements[batch->sent].begins;
    batch->state = MIG_BATCH_SENDING;
    batch->socket_is_full = false;
    batch->answered = false;
    return MIG_OK;
}

static void abort_rest(mig_batch *batch)
{
    for (size_t i = batch->failed; i < batch->count; i++)
        if (batch->statements[i].state == MIG_STATEMENT_PENDING)
            batch->statements[i].state =
                i == batch->failed ? MIG_STATEMENT_ERROR : MIG_STATEMENT_ABORTED;
}

/* A statement that was not expected to (such as a function of a trigger) changed how texts are
 * read, while others that depend on it were in flight: how the server read those is unknown. */
static mig_status check_facts(const mig_batch *batch, const mig_session *session, mig_error *error)
{
    mig_batch_facts now = mig_batch_facts_of(session);
    bool same = strcmp(now.client_encoding, batch->facts.client_encoding) == 0 &&
                now.standard_conforming_strings == batch->facts.standard_conforming_strings;
    if (same || batch->last_depending <= batch->ended || batch->last_changing > batch->ended)
        return MIG_OK;
    return mig_fail(error, MIG_EINTERNAL,
                    "client_encoding or standard_conforming_strings changed while statements that "
                    "depend on it were on their way");
}

/* The segment has ended: all results are there, or (with `status`) the connection is lost. It is
 * left. */
static mig_status end_segment(mig_batch *batch, mig_session *session, mig_status status,
                              mig_error *error)
{
    if (batch->state != MIG_BATCH_SYNCED)
        mig_session_break(session);
    mig_session_leave(session);
    batch->state = MIG_BATCH_FAILED;
    if (session->interrupted)
        return mig_fail(error, MIG_EINTR, "interrupted");
    /* If the connection was lost, the first message of the server says more than what libpq reports
     * later. */
    if (batch->failure != MIG_OK && (status == MIG_OK || *batch->diagnostics.sqlstate != '\0')) {
        *error = batch->failure_error;
        session->diagnostics = batch->diagnostics;
        status = batch->failure;
    }
    if (status == MIG_OK)
        status = check_facts(batch, session, error);
    if (status != MIG_OK) {
        if (batch->failed == MIG_BATCH_NONE) /* the connection was lost while it ran */
            batch->failed = batch->done < batch->last ? batch->done : batch->last - 1;
        abort_rest(batch);
        return status;
    }
    batch->ended = batch->moved + batch->last;
    batch->state = MIG_BATCH_IDLE;
    return MIG_OK;
}

/* Sends and reads what can be without waiting. */
static mig_status advance(mig_batch *batch, mig_session *session, mig_status status,
                          mig_error *error)
{
    if (status == MIG_OK)
        status = send_some(batch, session, error);
    take_results(
        batch, session); /* also when the connection is lost: the server may have sent the reason */
    return batch->state == MIG_BATCH_SYNCED || status != MIG_OK
               ? end_segment(batch, session, status, error)
               : MIG_OK;
}

bool mig_batch_in_flight(const mig_batch *batch)
{
    return batch->state == MIG_BATCH_SENDING || batch->state == MIG_BATCH_DRAINING ||
           batch->state == MIG_BATCH_SYNCED;
}

static bool may_start(const mig_batch *batch)
{
    return batch->state == MIG_BATCH_IDLE && batch->sent < batch->count &&
           !batch->statements[batch->sent].needs_simple_query;
}

/* Meanwhile the driver may have closed its connection, or this process may be a fork.
 */
static mig_status check_flight(mig_batch *batch, mig_session *session, mig_error *error)
{
    if (batch->state == MIG_BATCH_FAILED)
        return mig_fail(error, MIG_EINTERNAL, "the batch has failed before");
    if (!mig_batch_in_flight(batch))
        return MIG_OK;
    if (session->pid != getpid())
        return fail(batch,
                    mig_fail(error, MIG_EINVAL, "the batch belongs to the process that forked us"));
    if (session->conn != NULL)
        return MIG_OK;
    batch->failed = batch->done < batch->last ? batch->done : batch->last - 1;
    return fail(batch, mig_session_failed(session, NULL, error));
}

static mig_status start(mig_batch *batch, mig_session *session, mig_error *error)
{
    mig_status status = start_segment(batch, session, error);
    return status == MIG_OK ? advance(batch, session, status, error) : fail(batch, status);
}

mig_status mig_batch_poll(mig_batch *batch, mig_session *session, mig_error *error)
{
    mig_error local;
    if (error == NULL)
        error = &local;
    mig_status status = check_flight(batch, session, error);
    if (status == MIG_OK && mig_batch_in_flight(batch)) {
        status = mig_session_read(session, error);
        status = advance(batch, session, status, error);
    }
    if (status == MIG_OK && may_start(batch))
        status = start(batch, session, error);
    return status;
}

mig_status mig_batch_send_rest(mig_batch *batch, mig_session *session, mig_error *error)
{
    mig_error local;
    if (error == NULL)
        error = &local;
    MIG_TRY(mig_batch_poll(batch, session, error));
    bool may_add = batch->state == MIG_BATCH_DRAINING && batch->has_transaction &&
                   batch->failure == MIG_OK && !session->interrupted &&
                   batch->sent < batch->count && !batch->statements[batch->sent].needs_simple_query;
    if (!may_add)
        return MIG_OK;
    size_t last = end_of_segment(batch);
    mig_batch_facts facts = mig_batch_facts_of(session);
    if (!are_readable(batch, last, &facts))
        return MIG_OK; /* start_segment will report it */
    batch->last = last;
    batch->state = MIG_BATCH_SENDING;
    return advance(batch, session, MIG_OK, error);
}

/* Sends the next statement as a simple query, and waits for its results. */
static mig_status run_simple(mig_batch *batch, mig_session *session, mig_error *error)
{
    MIG_TRY(check_connection(batch, session, error));
    mig_statement *statement = &batch->statements[batch->sent];
    batch->segments++;
    session->sent++;
    mig_status status =
        mig_session_execute(session, statement->sql, statement->tag, &statement->rows, error);
    release_text(batch, statement);
    batch->unsent_bytes -= statement->length;
    statement->state = status == MIG_OK ? MIG_STATEMENT_OK : MIG_STATEMENT_ERROR;
    if (status != MIG_OK) {
        batch->failed = batch->sent;
        abort_rest(batch);
    } else {
        session->confirmed++;
    }
    batch->done = ++batch->sent;
    batch->ended = batch->moved + batch->done;
    return status;
}

typedef enum wait_goal { ALL_IS_DONE, SOMETHING_IS_NEW, THERE_IS_ROOM } wait_goal;

static bool is_reached(const mig_batch *batch, wait_goal goal)
{
    switch (goal) {
    case SOMETHING_IS_NEW:
        return mig_batch_good(batch) > batch->head;
    case THERE_IS_ROOM:
        return !mig_batch_is_full(batch);
    default:
        return false;
    }
}

static mig_status wait_until(mig_batch *batch, mig_session *session, wait_goal goal,
                             mig_error *error)
{
    mig_error local;
    if (error == NULL)
        error = &local;
    mig_status status = check_flight(batch, session, error);
    while (status == MIG_OK && (mig_batch_in_flight(batch) || batch->sent < batch->count)) {
        if (mig_batch_in_flight(batch)) {
            status = mig_session_wait(session, batch->socket_is_full, error);
            status = advance(batch, session, status, error);
        } else if (may_start(batch)) {
            status = start(batch, session, error);
        } else {
            status = fail(batch, run_simple(batch, session, error));
        }
        /* If interrupted, drain the segment first: its end reports the error. */
        if (status == MIG_OK && !session->interrupted && is_reached(batch, goal))
            break;
    }
    return status;
}

mig_status mig_batch_run(mig_batch *batch, mig_session *session, mig_error *error)
{
    return wait_until(batch, session, ALL_IS_DONE, error);
}

mig_status mig_batch_wait(mig_batch *batch, mig_session *session, mig_error *error)
{
    return wait_until(batch, session, SOMETHING_IS_NEW, error);
}

mig_status mig_batch_make_room(mig_batch *batch, mig_session *session, mig_error *error)
{
    return mig_batch_is_full(batch) ? wait_until(batch, session, THERE_IS_ROOM, error) : MIG_OK;
}

void mig_batch_abandon(mig_batch *batch, mig_session *session)
{
    mig_error error;
    if (check_flight(batch, session, &error) != MIG_OK || !mig_batch_in_flight(batch))
        return;
    mig_session_stop(session);
    mig_status status = MIG_OK;
    while (mig_batch_in_flight(batch)) {
        status = advance(batch, session, status, &error);
        if (mig_batch_in_flight(batch))
            status = mig_session_wait(session, batch->socket_is_full, &error);
    }
}

bool mig_batch_drain(mig_batch *batch, mig_session *session, bool give_up)
{
    mig_error error;
    if (check_flight(batch, session, &error) != MIG_OK || !mig_batch_in_flight(batch))
        return false;
    mig_status status = MIG_OK;
    if (give_up)
        status = mig_fail(&error, MIG_EIO, "the server did not answer after it was asked to stop");
    else
        status = mig_session_read(session, &error);
    (void)advance(batch, session, status, &error);
    return mig_batch_in_flight(batch);
}
