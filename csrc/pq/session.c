#define _POSIX_C_SOURCE 200809L /* clock_gettime */

#include "pq/session_internal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const int DIAGNOSTIC_CODES[MIG_DIAGNOSTIC_FIELDS] = {
    PG_DIAG_SEVERITY,           PG_DIAG_SEVERITY_NONLOCALIZED,
    PG_DIAG_SQLSTATE,           PG_DIAG_MESSAGE_PRIMARY,
    PG_DIAG_MESSAGE_DETAIL,     PG_DIAG_MESSAGE_HINT,
    PG_DIAG_STATEMENT_POSITION, PG_DIAG_INTERNAL_POSITION,
    PG_DIAG_INTERNAL_QUERY,     PG_DIAG_CONTEXT,
    PG_DIAG_SCHEMA_NAME,        PG_DIAG_TABLE_NAME,
    PG_DIAG_COLUMN_NAME,        PG_DIAG_DATATYPE_NAME,
    PG_DIAG_CONSTRAINT_NAME,    PG_DIAG_SOURCE_FILE,
    PG_DIAG_SOURCE_LINE,        PG_DIAG_SOURCE_FUNCTION,
};

int64_t mig_now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

mig_status mig_diagnostics_copy(mig_diagnostics *to, const mig_libpq *pq, const PGresult *result,
                                mig_arena *arena)
{
    memset(to, 0, sizeof *to);
    for (size_t i = 0; i < MIG_DIAGNOSTIC_FIELDS; i++) {
        const char *text = pq->PQresultErrorField(result, DIAGNOSTIC_CODES[i]);
        if (text == NULL)
            continue;
        char *copy = mig_arena_copy(arena, text, strlen(text));
        if (copy == NULL) {
            memset(to, 0, sizeof *to);
            return MIG_ENOMEM;
        }
        to->codes[to->count] = DIAGNOSTIC_CODES[i];
        to->texts[to->count++] = copy;
        if (DIAGNOSTIC_CODES[i] == PG_DIAG_SQLSTATE && strlen(text) < sizeof to->sqlstate)
            memcpy(to->sqlstate, text, strlen(text) + 1);
    }
    return MIG_OK;
}

static void receive_notice(void *arg, const PGresult *result)
{
    mig_session *session = arg;
    if (session->notice_count++ >= MIG_NOTICES_MAX)
        return;
    mig_diagnostics *notice = mig_arena_get(&session->arena, sizeof *notice);
    if (notice == NULL ||
        mig_diagnostics_copy(notice, &session->pq, result, &session->arena) != MIG_OK)
        return;
    if (session->last_notice != NULL)
        session->last_notice->next = notice;
    else
        session->notices = notice;
    session->last_notice = notice;
}

void mig_session_collect_notices(mig_session *session)
{
    (void)session->pq.PQsetNoticeReceiver(session->conn, receive_notice, session);
}

void mig_session_init(mig_session *session, mig_libpq *pq, const mig_alloc *alloc, mig_hook hook)
{
    memset(session, 0, sizeof *session);
    session->pq = *pq;
    session->hook = hook;
    session->pid = getpid();
    mig_arena_init(&session->arena, alloc);
    memset(pq, 0, sizeof *pq);
}

void mig_session_forget(mig_session *session)
{
    mig_arena_release(&session->arena);
    memset(&session->diagnostics, 0, sizeof session->diagnostics);
    session->notices = NULL;
    session->last_notice = NULL;
    session->notice_count = 0;
}

void mig_session_release(mig_session *session)
{
    if (session->conn != NULL && !session->borrowed && session->pid == getpid())
        session->pq.PQfinish(session->conn);
    session->conn = NULL;
    mig_libpq_release(&session->pq);
    mig_session_forget(session);
}

/* libpq's texts end in newlines. */
mig_status mig_fail_with_libpq_text(mig_error *error, mig_status code, const char *text)
{
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '\n')
        length--;
    return mig_fail(error, code, "%.*s", (int)(length > INT_MAX ? INT_MAX : length), text);
}

mig_status mig_session_failed(mig_session *session, const PGresult *result, mig_error *error)
{
    memset(&session->diagnostics, 0, sizeof session->diagnostics);
    const char *text = "";
    if (result != NULL) {
        if (mig_diagnostics_copy(&session->diagnostics, &session->pq, result, &session->arena) !=
            MIG_OK)
            return mig_fail_memory(error);
        text = session->pq.PQresultErrorMessage(result);
    }
    if (*text == '\0')
        text = session->conn != NULL ? session->pq.PQerrorMessage(session->conn)
                                     : "the connection is closed";
    if (*text == '\0')
        text = "the connection to the server was lost";
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '\n')
        length--;
    char *message = mig_arena_copy(&session->arena, text, length);
    if (message == NULL)
        return mig_fail_memory(error);
    session->diagnostics.message = message;
    return mig_fail_with_libpq_text(error, MIG_ESERVER, text);
}

bool mig_session_asks_to_stop(mig_session *session)
{
    /* The hook may set it by itself, too. */
    if (!session->interrupted && session->hook.interrupted != NULL &&
        session->hook.interrupted(session->hook.ctx))
        session->interrupted = true;
    return session->interrupted;
}

/* 1: ready; 0: not within `timeout` ms; -1: a signal or an error, errno says which. */
int mig_poll_socket(int socket, bool reading, bool writing, int timeout)
{
    struct pollfd fd = {.fd = socket, .events = 0, .revents = 0};
    if (reading)
        fd.events |= POLLIN;
    if (writing)
        fd.events |= POLLOUT;
    return poll(&fd, 1, timeout);
}

static void wait_begins(const mig_session *session)
{
    if (session->hook.wait_begins != NULL)
        session->hook.wait_begins(session->hook.ctx);
}

static void wait_ends(const mig_session *session)
{
    if (session->hook.wait_ends != NULL)
        session->hook.wait_ends(session->hook.ctx);
}

/* The PGcancel is a copy: it stays valid when the connection is closed meanwhile. */
static void cancel_on_server(mig_session *session)
{
    char text[256];
    session->cancel_again = mig_now_ms() + MIG_CANCEL_AGAIN_MS;
    PGcancel *cancel = session->pq.PQgetCancel(session->conn);
    if (cancel == NULL)
        return;
    wait_begins(session);
    (void)session->pq.PQcancel(cancel, text, sizeof text);
    wait_ends(session);
    session->pq.PQfreeCancel(cancel);
}

void mig_session_stop(mig_session *session)
{
    session->interrupted = true;
    cancel_on_server(session);
}

void mig_session_break(mig_session *session)
{
    int fd = session->pq.PQsocket(session->conn);
    if (fd < 0)
        return;
    (void)shutdown(fd, SHUT_RDWR);
    (void)session->pq.PQconsumeInput(session->conn);
}

mig_status mig_session_read(mig_session *session, mig_error *error)
{
    const mig_libpq *pq = &session->pq;
    if (!pq->PQconsumeInput(session->conn))
        return mig_session_failed(session, NULL, error);
    /* Before version 18 libpq leaves the rest of a TLS record of more than 8 kB with OpenSSL, where
     * poll() does not see it. A second read empties it; a closed connection is found at the next
     * one.
     */
    if (pq->PQsslInUse(session->conn) && pq->PQisBusy(session->conn))
        (void)pq->PQconsumeInput(session->conn);
    return MIG_OK;
}

mig_status mig_session_wait(mig_session *session, bool writing, mig_error *error)
{
    int fd = session->pq.PQsocket(session->conn);
    if (fd < 0)
        return mig_session_failed(session, NULL, error);
    int ready = mig_poll_socket(fd, true, writing, 0);
    if (ready == 0 && session->unread) {
        session->unread = false;
        session->waits++;
    }
    int64_t until = mig_now_ms() + MIG_DRAIN_MS;
    while (ready <= 0) {
        if (ready < 0 && errno != EINTR)
            return mig_fail(error, MIG_EIO, "cannot wait for the server: poll failed");
        if (mig_session_asks_to_stop(session) && session->conn != NULL &&
            mig_now_ms() >= session->cancel_again) {
            /* Again, because one that comes before its statement has begun has no effect. */
            bool is_first = session->cancel_again == 0;
            cancel_on_server(session);
            if (is_first)
                until = mig_now_ms() + MIG_DRAIN_MS;
        }
        if (session->conn == NULL)
            break;
        if (session->interrupted && mig_now_ms() >= until)
            return mig_fail(error, MIG_EIO, "the server did not answer after it was asked to stop");
        wait_begins(session);
        ready = mig_poll_socket(fd, true, writing, MIG_TICK_MS);
        int why = errno;
        wait_ends(session);
        errno = why;
        if (session->conn == NULL)
            break;
    }
    return mig_session_read(session, error);
}

mig_status mig_session_flush(mig_session *session, bool *pending, mig_error *error)
{
    int answer = session->pq.PQflush(session->conn);
    if (answer < 0)
        return mig_session_failed(session, NULL, error);
    *pending = answer == 1;
    return MIG_OK;
}

mig_status mig_session_flush_all(mig_session *session, mig_error *error)
{
    for (;;) {
        bool pending = false;
        MIG_TRY(mig_session_flush(session, &pending, error));
        if (!pending)
            return MIG_OK;
        MIG_TRY(mig_session_wait(session, true, error));
    }
}

mig_status mig_session_result(mig_session *session, PGresult **result, mig_error *error)
{
    *result = NULL;
    while (session->pq.PQisBusy(session->conn)) {
        MIG_TRY(mig_session_wait(session, false, error));
    }
    *result = session->pq.PQgetResult(session->conn);
    return MIG_OK;
}

mig_status mig_session_check(mig_session *session, mig_error *error)
{
    const mig_libpq *pq = &session->pq;
    memset(&session->diagnostics, 0, sizeof session->diagnostics);
    if (session->conn == NULL)
        return mig_fail(error, MIG_EINVAL, "the session is closed");
    if (session->pid != getpid())
        return mig_fail(error, MIG_EINVAL, "the session belongs to the process that forked us");
    if (pq->PQstatus(session->conn) != CONNECTION_OK)
        return mig_fail(error, MIG_ESERVER, "the connection is closed or broken");
    if (pq->has_pipeline && pq->PQpipelineStatus(session->conn) != 0)
        return mig_fail(error, MIG_EDECLINED, "the driver has the connection in pipeline mode");
    if (pq->PQtransactionStatus(session->conn) == PQTRANS_ACTIVE)
        return mig_fail(error, MIG_EDECLINED, "the connection is in use");
    return MIG_OK;
}

mig_status mig_session_enter(mig_session *session, mig_error *error)
{
    const mig_libpq *pq = &session->pq;
    MIG_TRY(mig_session_check(session, error));
    session->was_nonblocking = pq->PQisnonblocking(session->conn) != 0;
    session->interrupted = false;
    session->cancel_again = 0;
    session->unread = false;
    if (!session->was_nonblocking && pq->PQsetnonblocking(session->conn, 1) != 0)
        return mig_session_failed(session, NULL, error);
    return MIG_OK;
}

void mig_session_leave(mig_session *session)
{
    const mig_libpq *pq = &session->pq;
    if (pq->has_pipeline && pq->PQpipelineStatus(session->conn) != 0 &&
        !pq->PQexitPipelineMode(session->conn))
        mig_session_break(session);
    if (!session->was_nonblocking)
        (void)pq->PQsetnonblocking(session->conn, 0);
}

static mig_status copy_rows(mig_session *session, const PGresult *result, mig_arena *arena,
                            mig_rows *rows, mig_error *error)
{
    const mig_libpq *pq = &session->pq;
    int height = pq->PQntuples(result), width = pq->PQnfields(result);
    rows->rows = (size_t)height;
    rows->columns = (size_t)width;
    size_t cells = rows->columns != 0 && rows->rows > SIZE_MAX / rows->columns
                       ? SIZE_MAX
                       : rows->rows * rows->columns;
    rows->values = mig_arena_get_array(arena, cells, sizeof *rows->values);
    if (rows->values == NULL)
        return mig_fail_memory(error);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            size_t cell = (size_t)y * rows->columns + (size_t)x;
            rows->values[cell] = NULL;
            if (pq->PQgetisnull(result, y, x))
                continue;
            rows->values[cell] = mig_arena_copy(arena, pq->PQgetvalue(result, y, x),
                                                (size_t)pq->PQgetlength(result, y, x));
            if (rows->values[cell] == NULL)
                return mig_fail_memory(error);
        }
    return MIG_OK;
}

/* COPY TO STDOUT: read the data and drop it. */
static mig_status discard_copy(mig_session *session, mig_error *error)
{
    for (;;) {
        char *data = NULL;
        int length = session->pq.PQgetCopyData(session->conn, &data, 1);
        if (data != NULL)
            session->pq.PQfreemem(data);
        if (length < 0)
            return MIG_OK;
        if (length > 0)
            continue;
        MIG_TRY(mig_session_wait(session, false, error));
    }
}

static mig_status end_copy_in(mig_session *session, mig_error *error)
{
    for (;;) {
        int sent = session->pq.PQputCopyEnd(session->conn, "COPY FROM STDIN cannot be used here");
        if (sent < 0)
            return mig_session_failed(session, NULL, error);
        if (sent > 0)
            return mig_session_flush_all(session, error);
        MIG_TRY(mig_session_wait(session, true, error));
    }
}

typedef struct answer {
    mig_arena *arena;
    mig_rows *rows;
    char tag[MIG_TAG_SIZE];
    long long affected;
} answer;

static void take_tag(const mig_libpq *pq, PGresult *result, answer *a)
{
    const char *tag = pq->PQcmdStatus(result);
    size_t length = strlen(tag);
    if (length >= MIG_TAG_SIZE)
        length = MIG_TAG_SIZE - 1;
    memcpy(a->tag, tag, length);
    a->tag[length] = '\0';
    const char *rows = pq->PQcmdTuples(result);
    a->affected = *rows != '\0' ? strtoll(rows, NULL, 10) : -1;
}

/* Read one result. Reading goes on after a failure; the caller keeps the first one. */
static mig_status take_result(mig_session *session, PGresult *result, answer *a, mig_error *error)
{
    const mig_libpq *pq = &session->pq;
    mig_status status;
    switch (pq->PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
        take_tag(pq, result, a);
        return a->rows != NULL ? copy_rows(session, result, a->arena, a->rows, error) : MIG_OK;
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        take_tag(pq, result, a);
        return MIG_OK;
    case PGRES_COPY_IN:
        return end_copy_in(session, error);
    case PGRES_COPY_OUT:
        status = discard_copy(session, error);
        return status != MIG_OK ? status
                                : mig_fail(error, MIG_EINVAL, "COPY TO STDOUT cannot be used here");
    case PGRES_COPY_BOTH:
        mig_session_break(session);
        return mig_fail(error, MIG_EINVAL, "a replication command cannot be used here");
    default:
        return mig_session_failed(session, result, error);
    }
}

static mig_status run_simple(mig_session *session, const char *sql, answer *a, mig_error *error)
{
    mig_diagnostics diagnostics = {.sqlstate = ""};
    mig_error later;
    mig_status status = MIG_OK, first = MIG_OK;
    MIG_TRY(mig_session_enter(session, error));
    if (!session->pq.PQsendQuery(session->conn, sql)) {
        status = mig_session_failed(session, NULL, error);
        goto leave;
    }
    session->unread = true;
    status = mig_session_flush_all(session, error);
    /* Read all results; report the first failure. */
    while (status == MIG_OK) {
        PGresult *result;
        status = mig_session_result(session, &result, first == MIG_OK ? error : &later);
        if (status != MIG_OK || result == NULL)
            break;
        mig_status its = take_result(session, result, a, first == MIG_OK ? error : &later);
        session->pq.PQclear(result);
        if (first == MIG_OK && its != MIG_OK) {
            first = its;
            diagnostics = session->diagnostics;
        }
        if (its == MIG_EIO)
            break; /* libpq would hand out the same COPY again */
    }
    if (session->pq.PQtransactionStatus(session->conn) == PQTRANS_ACTIVE)
        mig_session_break(session); /* could not be drained */
    if (first != MIG_OK) {
        session->diagnostics = diagnostics;
        status = first;
    }
    if (session->interrupted)
        status = mig_fail(error, MIG_EINTR, "interrupted");
leave:
    mig_session_leave(session);
    return status;
}

mig_status mig_session_query(mig_session *session, const char *sql, mig_arena *arena,
                             mig_rows *rows, mig_error *error)
{
    answer a = {.arena = arena, .rows = rows, .tag = "", .affected = -1};
    if (rows != NULL)
        memset(rows, 0, sizeof *rows);
    return run_simple(session, sql, &a, error);
}

mig_status mig_session_execute(mig_session *session, const char *sql, char tag[MIG_TAG_SIZE],
                               long long *affected, mig_error *error)
{
    answer a = {.arena = NULL, .rows = NULL, .tag = "", .affected = -1};
    mig_status status = run_simple(session, sql, &a, error);
    memcpy(tag, a.tag, MIG_TAG_SIZE);
    *affected = a.affected;
    return status;
}

bool mig_session_in_transaction(const mig_session *session)
{
    return session->conn != NULL &&
           session->pq.PQtransactionStatus(session->conn) == PQTRANS_INTRANS;
}

static mig_status end_or_begin(mig_session *session, const char *sql, char tag[MIG_TAG_SIZE],
                               mig_error *error)
{
    long long affected;
    if (session->borrowed)
        return mig_fail(error, MIG_EINVAL, "the transaction is the driver's");
    return mig_session_execute(session, sql, tag, &affected, error);
}

mig_status mig_session_begin(mig_session *session, mig_error *error)
{
    char tag[MIG_TAG_SIZE];
    return end_or_begin(session, "BEGIN", tag, error);
}

mig_status mig_session_commit(mig_session *session, mig_error *error)
{
    char tag[MIG_TAG_SIZE];
    mig_status status = end_or_begin(session, "COMMIT", tag, error);
    if (status == MIG_OK && strcmp(tag, "COMMIT") != 0)
        return mig_fail(error, MIG_EINVAL, "the transaction had failed: the server rolled it back");
    return status;
}

mig_status mig_session_rollback(mig_session *session, mig_error *error)
{
    char tag[MIG_TAG_SIZE];
    return end_or_begin(session, "ROLLBACK", tag, error);
}

mig_status mig_session_borrow(mig_session *session, PGconn *conn, mig_error *error)
{
    if (session->pq.PQstatus(conn) != CONNECTION_OK)
        return mig_fail(error, MIG_ECONNECT, "the driver's connection is closed or broken");
    session->conn = conn;
    session->borrowed = true;
    return MIG_OK;
}
