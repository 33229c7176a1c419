#include "pq/batch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/sqllex.h"

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
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    size_t capacity = batch->capacity == 0 ? 16 : batch->capacity * 2;
    mig_statement *statements = mig_alloc_array(alloc, capacity, sizeof *statements);
    if (statements == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
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
    /* Who has heard of all takes the connection to be free. */
    return batch->flying && good == batch->last ? good - 1 : good;
}

void mig_batch_pop(mig_batch *batch, size_t count)
{
    for (; count > 0; count--) {
        mig_statement *statement = &batch->statements[--batch->count];
        batch->unsent_bytes -= statement->length;
        release_text(batch, statement);
    }
}

static mig_status add(mig_batch *batch, const char *sql, size_t length, mig_statement **added,
                      mig_error *error)
{
    if (length > 0 && memchr(sql, '\0', length) != NULL)
        return mig_fail(error, MIG_EINVAL, "a statement holds a zero byte");
    if (batch->count == batch->capacity) {
        mig_status status = grow(batch, error);
        if (status != MIG_OK)
            return status;
    }
    char *copy = length < SIZE_MAX ? batch->alloc->allocate(batch->alloc->ctx, length + 1) : NULL;
    if (copy == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    if (length > 0)
        memcpy(copy, sql, length);
    copy[length] = '\0';
    mig_statement *statement = &batch->statements[batch->count++];
    memset(statement, 0, sizeof *statement);
    statement->sql = copy;
    statement->length = length;
    statement->rows = -1;
    for (size_t i = 0; i < length && !statement->beyond_ascii; i++)
        statement->beyond_ascii = (unsigned char)sql[i] >= 0x80;
    batch->unsent_bytes += length;
    *added = statement;
    return MIG_OK;
}

mig_status mig_batch_add(mig_batch *batch, const char *sql, size_t length, mig_error *error)
{
    mig_statement *statement;
    mig_sql_info info = mig_sqllex_classify(sql, length, true);
    if (mig_sqllex_changes_transaction(&info))
        return mig_fail(error, MIG_EDECLINED, "%s changes the transaction", info.keyword);
    bool alone = info.kind == MIG_SQL_SEVERAL || info.kind == MIG_SQL_UNSURE ||
                 strcmp(info.keyword, "COPY") == 0;
    /* A SET earlier in the batch may change what a backslash means: both readings must agree. */
    if (!alone && length > 0 && memchr(sql, '\\', length) != NULL)
        alone = mig_sqllex_classify(sql, length, false).kind != info.kind;
    mig_status status = add(batch, sql, length, &statement, error);
    if (status == MIG_OK)
        statement->alone = alone;
    return status;
}

mig_status mig_batch_add_begin(mig_batch *batch, const char *sql, mig_error *error)
{
    mig_statement *statement;
    if (batch->head != batch->count)
        return mig_fail(error, MIG_EINVAL, "a transaction cannot begin in the middle of a batch");
    mig_status status = add(batch, sql, strlen(sql), &statement, error);
    if (status == MIG_OK)
        statement->begins = true;
    return status;
}

bool mig_batch_is_full(const mig_batch *batch)
{
    return batch->unsent_bytes > MIG_BATCH_PART_BYTES ||
           batch->count - batch->sent > MIG_BATCH_PART_STATEMENTS;
}

static void take_failure(mig_batch *batch, mig_session *session, const PGresult *result)
{
    if (batch->failure != MIG_OK)
        return;
    mig_diagnostics before = session->diagnostics; /* of the line, if it was cut */
    batch->failure = mig_session_failed(session, result, &batch->failure_error);
    batch->diagnostics = session->diagnostics;
    session->diagnostics = before;
}

static void take_result(mig_batch *batch, mig_session *session, PGresult *result)
{
    const mig_libpq *pq = &session->pq;
    int state = (int)pq->PQresultStatus(result);
    if (state == MIG_PGRES_PIPELINE_SYNC) {
        batch->synced = true;
        return;
    }
    if (batch->done >= batch->sent) {
        /* Nobody asked: the server has something to say of its own, such as its shutdown. */
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
    } else {
        statement->state = MIG_STATEMENT_ERROR;
        if (batch->failure == MIG_OK)
            batch->failed = batch->done;
        take_failure(batch, session, result);
        /* libpq can leave COPY neither way in a pipeline; the lexer keeps it out, this is the last
         * resort. */
        if (state == PGRES_COPY_IN || state == PGRES_COPY_OUT || state == PGRES_COPY_BOTH)
            mig_session_break(session);
    }
}

/* Takes what is there without waiting. */
static void take_results(mig_batch *batch, mig_session *session)
{
    const mig_libpq *pq = &session->pq;
    bool ended = false;
    while (!batch->synced && !pq->PQisBusy(session->conn)) {
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
    mig_status status = mig_session_flush(session, &batch->writing, error);
    while (status == MIG_OK && !batch->writing && !batch->sync_sent) {
        bool stop = batch->failure != MIG_OK || session->interrupted;
        if (batch->sent < batch->last && !stop) {
            mig_statement *statement = &batch->statements[batch->sent];
            if (!pq->PQsendQueryParams(session->conn, statement->sql, 0, NULL, NULL, NULL, NULL, 0))
                return mig_session_failed(session, NULL, error);
            if (statement->prompt && !pq->PQsendFlushRequest(session->conn))
                return mig_session_failed(session, NULL, error);
            release_text(batch, statement);
            batch->unsent_bytes -= statement->length;
            batch->sent++;
            session->unread = true;
            /* What libpq has not written yet stays in its buffer: look each time, so that it stays
             * small. */
            if (batch->sent % 64 == 0 || statement->length > 8192)
                status = mig_session_flush(session, &batch->writing, error);
        } else {
            if (!pq->PQpipelineSync(session->conn))
                return mig_session_failed(session, NULL, error);
            batch->sync_sent = true;
            session->unread = true;
            status = mig_session_flush(session, &batch->writing, error);
        }
    }
    return status;
}

static size_t end_of_part(const mig_batch *batch)
{
    size_t first = batch->sent, i = first, bytes = 0;
    while (i < batch->count && !batch->statements[i].alone &&
           i - first < MIG_BATCH_PART_STATEMENTS) {
        if (i > first && batch->statements[i].length > MIG_BATCH_PART_BYTES - bytes)
            break;
        bytes += batch->statements[i].length;
        i++;
        if (bytes >= MIG_BATCH_PART_BYTES)
            break;
    }
    return i;
}

static mig_status check_transaction(const mig_batch *batch, mig_session *session, mig_error *error)
{
    mig_status status = mig_session_check(session, error);
    if (status != MIG_OK)
        return status;
    if (!session->pq.has_pipeline)
        return mig_fail(error, MIG_EDECLINED, "this libpq (%d) has no pipelines",
                        session->pq.version);
    if (batch->statements[batch->sent].begins
            ? session->pq.PQtransactionStatus(session->conn) == PQTRANS_IDLE
            : mig_session_in_transaction(session))
        return MIG_OK;
    if (!batch->ran)
        return mig_fail(error, MIG_EINVAL, "not in a transaction");
    return mig_fail(error, MIG_EDECLINED, "a statement of the batch ended the transaction");
}

static mig_status start_part(mig_batch *batch, mig_session *session, mig_error *error)
{
    const mig_libpq *pq = &session->pq;
    mig_status status = check_transaction(batch, session, error);
    if (status != MIG_OK)
        return status;
    size_t last = end_of_part(batch);
    const char *encoding = pq->PQparameterStatus(session->conn, "client_encoding");
    if (encoding == NULL || strcmp(encoding, "UTF8") != 0)
        for (size_t i = batch->sent; i < last; i++)
            if (batch->statements[i].beyond_ascii)
                return mig_fail(error, MIG_EDECLINED, "the connection's encoding is not UTF8");
    status = mig_session_enter(session, error);
    if (status != MIG_OK)
        return status;
    if (!pq->PQenterPipelineMode(session->conn)) {
        status = mig_session_failed(session, NULL, error);
        mig_session_leave(session);
        return status;
    }
    batch->last = last;
    batch->parts++;
    batch->ran = true;
    batch->flying = true;
    batch->writing = false;
    batch->answered = false;
    batch->sync_sent = false;
    batch->synced = false;
    return MIG_OK;
}

static void abort_rest(mig_batch *batch)
{
    for (size_t i = batch->failed; i < batch->count; i++)
        if (batch->statements[i].state == MIG_STATEMENT_PENDING)
            batch->statements[i].state =
                i == batch->failed ? MIG_STATEMENT_ERROR : MIG_STATEMENT_ABORTED;
}

/* The part is over: answered in full, or (with `status`) the line was cut. The connection is the
 * driver's again. */
static mig_status end_part(mig_batch *batch, mig_session *session, mig_status status,
                           mig_error *error)
{
    if (!batch->synced)
        mig_session_break(session);
    mig_session_leave(session);
    batch->flying = false;
    if (session->interrupted)
        return mig_fail(error, MIG_EINTR, "interrupted");
    /* Of a line that was cut, what libpq said first is better than what it makes of it later. */
    if (batch->failure != MIG_OK && (status == MIG_OK || *batch->diagnostics.sqlstate != '\0')) {
        *error = batch->failure_error;
        session->diagnostics = batch->diagnostics;
        status = batch->failure;
    }
    if (status != MIG_OK) {
        if (batch->failed == MIG_BATCH_NONE) /* the line was cut while it ran */
            batch->failed = batch->done < batch->last ? batch->done : batch->last - 1;
        abort_rest(batch);
    }
    return status;
}

/* Sends and reads what can be without waiting. */
static mig_status advance(mig_batch *batch, mig_session *session, mig_status status,
                          mig_error *error)
{
    if (status == MIG_OK)
        status = send_some(batch, session, error);
    take_results(batch, session); /* also when the line was cut: the server may have said why */
    return batch->synced || status != MIG_OK ? end_part(batch, session, status, error) : MIG_OK;
}

static bool may_start(const mig_batch *batch)
{
    return !batch->flying && batch->sent < batch->count && !batch->statements[batch->sent].alone;
}

/* A flight may have been cut short by others: the driver closed its connection, or we are a fork.
 */
static mig_status check_flight(mig_batch *batch, const mig_session *session, mig_error *error)
{
    if (!batch->flying || (session->conn != NULL && session->pid == getpid()))
        return MIG_OK;
    batch->flying = false;
    return mig_fail(error, MIG_EINVAL, "the connection was closed while a batch was running");
}

mig_status mig_batch_poll(mig_batch *batch, mig_session *session, mig_error *error)
{
    mig_error local;
    if (error == NULL)
        error = &local;
    mig_status status = check_flight(batch, session, error);
    if (status == MIG_OK && batch->flying) {
        if (!session->pq.PQconsumeInput(session->conn))
            status = mig_session_failed(session, NULL, error);
        status = advance(batch, session, status, error);
    }
    if (status == MIG_OK && may_start(batch)) {
        status = start_part(batch, session, error);
        if (status == MIG_OK)
            status = advance(batch, session, status, error);
    }
    return status;
}

static mig_status run_alone(mig_batch *batch, mig_session *session, mig_error *error)
{
    mig_status status = check_transaction(batch, session, error);
    if (status != MIG_OK)
        return status;
    mig_statement *statement = &batch->statements[batch->sent];
    batch->ran = true;
    batch->parts++;
    status = mig_session_execute(session, statement->sql, statement->tag, &statement->rows, error);
    if (status == MIG_EDECLINED || status == MIG_EINTR)
        return status;
    release_text(batch, statement);
    batch->unsent_bytes -= statement->length;
    statement->state = status == MIG_OK ? MIG_STATEMENT_OK : MIG_STATEMENT_ERROR;
    if (status != MIG_OK) {
        batch->failed = batch->sent;
        abort_rest(batch);
    }
    batch->done = ++batch->sent;
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
    while (status == MIG_OK && (batch->flying || batch->sent < batch->count)) {
        if (batch->flying) {
            status = mig_session_wait(session, batch->writing, error);
            status = advance(batch, session, status, error);
        } else if (may_start(batch)) {
            status = start_part(batch, session, error);
            if (status == MIG_OK)
                status = advance(batch, session, status, error);
        } else {
            status = run_alone(batch, session, error);
        }
        /* Who is interrupted waits for the end of the part, which tells. */
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
    if (check_flight(batch, session, &error) != MIG_OK || !batch->flying)
        return;
    mig_session_stop(session);
    mig_status status = MIG_OK;
    while (batch->flying) {
        status = advance(batch, session, status, &error);
        if (batch->flying)
            status = mig_session_wait(session, batch->writing, &error);
    }
}

bool mig_batch_drain(mig_batch *batch, mig_session *session, bool give_up)
{
    mig_error error;
    if (check_flight(batch, session, &error) != MIG_OK || !batch->flying)
        return false;
    mig_status status = MIG_OK;
    if (give_up)
        status = mig_fail(&error, MIG_EIO, "the server did not answer after it was asked to stop");
    else if (!session->pq.PQconsumeInput(session->conn))
        status = mig_session_failed(session, NULL, &error);
    (void)advance(batch, session, status, &error);
    return batch->flying;
}
