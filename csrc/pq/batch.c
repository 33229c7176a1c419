#include "pq/batch.h"

#include <stdlib.h>
#include <string.h>

#include "core/sqllex.h"

void mig_batch_init(mig_batch *batch, const mig_alloc *alloc)
{
    memset(batch, 0, sizeof *batch);
    mig_arena_init(&batch->arena, alloc);
    batch->failed = MIG_BATCH_NONE;
}

void mig_batch_release(mig_batch *batch)
{
    const mig_alloc *alloc = batch->arena.alloc;
    alloc->release(alloc->ctx, batch->statements);
    mig_arena_release(&batch->arena);
    mig_batch_init(batch, alloc);
}

static mig_status grow(mig_batch *batch, mig_error *error)
{
    const mig_alloc *alloc = batch->arena.alloc;
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

mig_status mig_batch_add(mig_batch *batch, const char *sql, size_t length, mig_error *error)
{
    if (length > 0 && memchr(sql, '\0', length) != NULL)
        return mig_fail(error, MIG_EINVAL, "a statement holds a zero byte");
    mig_sql_info info = mig_sqllex_classify(sql, length, true);
    if (mig_sqllex_ends_transaction(&info))
        return mig_fail(error, MIG_EDECLINED, "%s changes the transaction", info.keyword);
    bool alone = info.kind == MIG_SQL_SEVERAL || info.kind == MIG_SQL_UNSURE ||
                 strcmp(info.keyword, "COPY") == 0;
    /* A SET earlier in the batch may change what a backslash means: both readings must agree. */
    if (!alone && length > 0 && memchr(sql, '\\', length) != NULL)
        alone = mig_sqllex_classify(sql, length, false).kind != info.kind;
    if (batch->count == batch->capacity) {
        mig_status status = grow(batch, error);
        if (status != MIG_OK)
            return status;
    }
    mig_statement *statement = &batch->statements[batch->count];
    memset(statement, 0, sizeof *statement);
    statement->sql = mig_arena_copy(&batch->arena, sql, length);
    if (statement->sql == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    for (size_t i = 0; i < length && !batch->beyond_ascii; i++)
        batch->beyond_ascii = (unsigned char)sql[i] >= 0x80;
    statement->length = length;
    statement->alone = alone;
    statement->rows = -1;
    batch->count++;
    return MIG_OK;
}

/* The statements [first, last) on their way through one pipeline, up to one Sync. */
typedef struct part {
    mig_batch *batch;
    mig_session *session;
    size_t last;
    size_t sent;   /* the next one to send */
    size_t done;   /* the next one to hear about */
    bool answered; /* there was a result for `done` */
    bool sync_sent;
    bool synced;
    mig_status failure; /* the first */
    mig_error *error;
} part;

static void take_result(part *p, PGresult *result)
{
    const mig_libpq *pq = &p->session->pq;
    int state = (int)pq->PQresultStatus(result);
    if (state == MIG_PGRES_PIPELINE_SYNC) {
        p->synced = true;
        return;
    }
    if (p->done >= p->sent) {
        /* Nobody asked: the server has something to say of its own, such as its shutdown. */
        if (p->failure == MIG_OK)
            p->failure = mig_session_failed(p->session, result, p->error);
        return;
    }
    mig_statement *statement = &p->batch->statements[p->done];
    p->answered = true;
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
        if (p->failure == MIG_OK) {
            p->batch->failed = p->done;
            p->failure = mig_session_failed(p->session, result, p->error);
        }
        /* libpq can leave COPY neither way in a pipeline; the lexer keeps it out, this is the last
         * resort. */
        if (state == PGRES_COPY_IN || state == PGRES_COPY_OUT || state == PGRES_COPY_BOTH)
            mig_session_break(p->session);
    }
}

/* Takes what is there without waiting. */
static void take_results(part *p)
{
    const mig_libpq *pq = &p->session->pq;
    bool ended = false;
    while (!p->synced && !pq->PQisBusy(p->session->conn)) {
        PGresult *result = pq->PQgetResult(p->session->conn);
        if (result != NULL) {
            take_result(p, result);
            pq->PQclear(result);
            ended = false;
        } else if (p->answered) {
            p->answered = false;
            p->done++;
            ended = false;
        } else if (ended) {
            return; /* nothing more is there */
        } else {
            ended = true;
        }
    }
}

/* Hands statements to libpq until they are all sent or the socket is full. */
static mig_status send_some(part *p, bool *pending)
{
    const mig_libpq *pq = &p->session->pq;
    mig_status status = mig_session_flush(p->session, pending, p->error);
    while (status == MIG_OK && !*pending && !p->sync_sent) {
        bool stop = p->failure != MIG_OK || p->session->interrupted;
        if (p->sent < p->last && !stop) {
            const char *sql = p->batch->statements[p->sent].sql;
            if (!pq->PQsendQueryParams(p->session->conn, sql, 0, NULL, NULL, NULL, NULL, 0))
                return mig_session_failed(p->session, NULL, p->error);
            p->sent++;
            p->session->unread = true;
            /* What libpq has not written yet stays in its buffer: look each time, so that it stays
             * small. */
            status = p->sent % 64 == 0 || p->batch->statements[p->sent - 1].length > 8192
                         ? mig_session_flush(p->session, pending, p->error)
                         : MIG_OK;
        } else {
            if (!pq->PQpipelineSync(p->session->conn))
                return mig_session_failed(p->session, NULL, p->error);
            p->sync_sent = true;
            p->session->unread = true;
            status = mig_session_flush(p->session, pending, p->error);
        }
    }
    return status;
}

static mig_status run_part(part *p)
{
    const mig_libpq *pq = &p->session->pq;
    while (!p->synced) {
        bool pending = false;
        mig_status status = send_some(p, &pending);
        if (status == MIG_OK)
            take_results(p);
        if (status == MIG_OK && !p->synced) {
            if (pq->PQstatus(p->session->conn) != CONNECTION_OK)
                status = p->failure != MIG_OK ? p->failure
                                              : mig_session_failed(p->session, NULL, p->error);
            else
                status = mig_session_wait(p->session, pending, p->error);
        }
        if (status != MIG_OK) {
            /* A last look: the server may have said why it hung up. */
            mig_error lost = *p->error;
            take_results(p);
            if (p->failure != MIG_OK)
                return p->failure;
            *p->error = lost;
            return status;
        }
    }
    return p->failure;
}

static mig_status run_pipeline(mig_batch *batch, mig_session *session, size_t first, size_t last,
                               mig_error *error)
{
    part p = {.batch = batch,
              .session = session,
              .last = last,
              .sent = first,
              .done = first,
              .failure = MIG_OK,
              .error = error};
    mig_status status = mig_session_enter(session, error);
    if (status != MIG_OK)
        return status;
    if (!session->pq.PQenterPipelineMode(session->conn)) {
        status = mig_session_failed(session, NULL, error);
        mig_session_leave(session);
        return status;
    }
    status = run_part(&p);
    if (!p.synced)
        mig_session_break(session);
    mig_session_leave(session);
    if (session->interrupted)
        return mig_fail(error, MIG_EINTR, "interrupted");
    if (status != MIG_OK && batch->failed == MIG_BATCH_NONE)
        batch->failed = p.done < last ? p.done : last - 1; /* the line was cut while it ran */
    return status;
}

static mig_status run_alone(mig_batch *batch, mig_session *session, size_t i, mig_error *error)
{
    mig_statement *statement = &batch->statements[i];
    mig_status status =
        mig_session_execute(session, statement->sql, statement->tag, &statement->rows, error);
    if (status == MIG_EDECLINED || status == MIG_EINTR)
        return status;
    statement->state = status == MIG_OK ? MIG_STATEMENT_OK : MIG_STATEMENT_ERROR;
    if (status != MIG_OK)
        batch->failed = i;
    return status;
}

static size_t end_of_part(const mig_batch *batch, size_t first)
{
    size_t i = first, bytes = 0;
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

mig_status mig_batch_run(mig_batch *batch, mig_session *session, mig_error *error)
{
    mig_error local;
    mig_status status = MIG_OK;
    if (error == NULL)
        error = &local;
    if (session->conn == NULL)
        return mig_fail(error, MIG_EINVAL, "the session is closed");
    if (!session->pq.has_pipeline)
        return mig_fail(error, MIG_EDECLINED, "this libpq (%d) has no pipelines",
                        session->pq.version);
    const char *encoding = session->pq.PQparameterStatus(session->conn, "client_encoding");
    if (batch->beyond_ascii && (encoding == NULL || strcmp(encoding, "UTF8") != 0))
        return mig_fail(error, MIG_EDECLINED, "the connection's encoding is not UTF8");
    size_t i = 0;
    while (i < batch->count && status == MIG_OK) {
        if (!mig_session_in_transaction(session)) {
            if (i == 0)
                return mig_fail(error, MIG_EINVAL, "not in a transaction");
            return mig_fail(error, MIG_EDECLINED,
                            "statement %zu of the batch ended the transaction", i);
        }
        if (batch->statements[i].alone) {
            status = run_alone(batch, session, i, error);
            i++;
        } else {
            size_t last = end_of_part(batch, i);
            status = run_pipeline(batch, session, i, last, error);
            i = last;
        }
    }
    if (batch->failed != MIG_BATCH_NONE)
        for (size_t j = batch->failed; j < batch->count; j++)
            if (batch->statements[j].state == MIG_STATEMENT_PENDING)
                batch->statements[j].state =
                    j == batch->failed ? MIG_STATEMENT_ERROR : MIG_STATEMENT_ABORTED;
    return status;
}
