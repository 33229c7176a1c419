/* clock_gettime */
#define _POSIX_C_SOURCE 200809L

#include "pq/session.h"

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

static int64_t now_ms(void)
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
static mig_status fail_with_text(mig_error *error, mig_status code, const char *text)
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
            return mig_fail(error, MIG_ENOMEM, "out of memory");
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
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    session->diagnostics.message = message;
    return fail_with_text(error, MIG_ESERVER, text);
}

static bool stop_is_asked(mig_session *session)
{
    /* The hook may set it by itself, too. */
    if (!session->interrupted && session->hook.interrupted != NULL &&
        session->hook.interrupted(session->hook.ctx))
        session->interrupted = true;
    return session->interrupted;
}

/* 1: ready; 0: not within `timeout` ms; -1: a signal or an error, errno says which. */
static int poll_socket(int socket, bool reading, bool writing, int timeout)
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

/* The PGcancel is a copy: it is good also when the connection is closed meanwhile. */
static void cancel_on_server(mig_session *session)
{
    char text[256];
    session->cancelled = true;
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
    /* Of a TLS record of more than 8 kB libpq before 18 leaves the rest with OpenSSL, where no
     * poll() sees it. A second reading empties it; that the server has closed is found at the next.
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
    int ready = poll_socket(fd, true, writing, 0);
    if (ready == 0 && session->unread) {
        session->unread = false;
        session->waits++;
    }
    int64_t until = now_ms() + MIG_DRAIN_MS;
    while (ready <= 0) {
        if (ready < 0 && errno != EINTR)
            return mig_fail(error, MIG_EIO, "cannot wait for the server: poll failed");
        if (stop_is_asked(session) && session->conn != NULL && !session->cancelled) {
            cancel_on_server(session);
            until = now_ms() + MIG_DRAIN_MS;
        }
        if (session->conn == NULL)
            break;
        if (session->interrupted && now_ms() >= until)
            return mig_fail(error, MIG_EIO, "the server did not answer after it was asked to stop");
        wait_begins(session);
        ready = poll_socket(fd, true, writing, MIG_TICK_MS);
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
        mig_status status = mig_session_flush(session, &pending, error);
        if (status != MIG_OK || !pending)
            return status;
        status = mig_session_wait(session, true, error);
        if (status != MIG_OK)
            return status;
    }
}

mig_status mig_session_result(mig_session *session, PGresult **result, mig_error *error)
{
    *result = NULL;
    while (session->pq.PQisBusy(session->conn)) {
        mig_status status = mig_session_wait(session, false, error);
        if (status != MIG_OK)
            return status;
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
    mig_status status = mig_session_check(session, error);
    if (status != MIG_OK)
        return status;
    session->was_nonblocking = pq->PQisnonblocking(session->conn) != 0;
    session->interrupted = session->cancelled = false;
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
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            size_t cell = (size_t)y * rows->columns + (size_t)x;
            rows->values[cell] = NULL;
            if (pq->PQgetisnull(result, y, x))
                continue;
            rows->values[cell] = mig_arena_copy(arena, pq->PQgetvalue(result, y, x),
                                                (size_t)pq->PQgetlength(result, y, x));
            if (rows->values[cell] == NULL)
                return mig_fail(error, MIG_ENOMEM, "out of memory");
        }
    return MIG_OK;
}

/* The server is copying to us: throw it away. */
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
        mig_status status = mig_session_wait(session, false, error);
        if (status != MIG_OK)
            return status;
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
        mig_status status = mig_session_wait(session, true, error);
        if (status != MIG_OK)
            return status;
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

/* Reads one result; what it returns is the first failure of the query, reading goes on after it. */
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
    mig_status status = mig_session_enter(session, error), first = MIG_OK;
    if (status != MIG_OK)
        return status;
    if (!session->pq.PQsendQuery(session->conn, sql)) {
        status = mig_session_failed(session, NULL, error);
        goto leave;
    }
    session->unread = true;
    status = mig_session_flush_all(session, error);
    /* All results are read whatever they say; the first failure is the one to tell. */
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

/* Connecting. */

/* What libpq found out about its parameters: from us, the environment, a service file, its
 * defaults. */
typedef struct effective {
    int timeout; /* seconds; 0: none */
    char *host, *hostaddr, *port, *target;
    bool balances; /* load_balance_hosts=random */
} effective;

static char *copy_option(const PQconninfoOption *options, const char *keyword, mig_arena *arena)
{
    for (; options->keyword != NULL; options++)
        if (strcmp(options->keyword, keyword) == 0)
            return options->val != NULL ? mig_arena_copy(arena, options->val, strlen(options->val))
                                        : NULL;
    return NULL;
}

static void read_effective(mig_session *session, mig_arena *arena, effective *e)
{
    memset(e, 0, sizeof *e);
    PQconninfoOption *options = session->pq.PQconninfo(session->conn);
    if (options == NULL)
        return;
    const char *timeout = copy_option(options, "connect_timeout", arena);
    if (timeout != NULL) {
        long seconds = strtol(timeout, NULL, 10);
        /* libpq: a timeout of one second is two, because its clock counts whole seconds. */
        e->timeout = seconds <= 0 ? 0 : seconds == 1 ? 2 : seconds > 86400 ? 86400 : (int)seconds;
    }
    e->host = copy_option(options, "host", arena);
    e->hostaddr = copy_option(options, "hostaddr", arena);
    e->port = copy_option(options, "port", arena);
    e->target = copy_option(options, "target_session_attrs", arena);
    const char *balance = copy_option(options, "load_balance_hosts", arena);
    e->balances = balance != NULL && strcmp(balance, "random") == 0;
    session->pq.PQconninfoFree(options);
}

static size_t count_items(const char *list)
{
    size_t count = list != NULL && *list != '\0';
    for (; list != NULL && *list != '\0'; list++)
        count += *list == ',';
    return count;
}

/* The i-th of a comma list; of a list of one, always that one. */
static char *item(const char *list, size_t i, mig_arena *arena)
{
    if (list == NULL)
        return NULL;
    if (count_items(list) <= 1)
        return mig_arena_copy(arena, list, strlen(list));
    while (i > 0 && (list = strchr(list, ',')) != NULL) {
        list++;
        i--;
    }
    return list != NULL ? mig_arena_copy(arena, list, strcspn(list, ",")) : NULL;
}

/* Polls the connection that was started to its end. */
static mig_status finish_connecting(mig_session *session, int timeout, mig_error *error)
{
    const mig_libpq *pq = &session->pq;
    int64_t until = now_ms() + (int64_t)timeout * 1000;
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    if (pq->PQstatus(session->conn) == CONNECTION_BAD)
        return fail_with_text(error, MIG_ECONNECT, pq->PQerrorMessage(session->conn));
    while (state != PGRES_POLLING_OK) {
        int fd = pq->PQsocket(session->conn);
        bool reading = state == PGRES_POLLING_READING;
        int ready = poll_socket(fd, reading, !reading, 0);
        if (ready == 0 && reading)
            session->waits++;
        while (ready <= 0) {
            if (ready < 0 && errno != EINTR)
                return mig_fail(error, MIG_EIO, "cannot wait for the server: poll failed");
            if (stop_is_asked(session))
                return mig_fail(error, MIG_EINTR, "interrupted");
            int64_t left = until - now_ms();
            if (timeout > 0 && left <= 0)
                return mig_fail(error, MIG_ECONNECT,
                                "connection to the server failed: timeout expired");
            ready = poll_socket(fd, reading, !reading,
                                timeout > 0 && left < MIG_TICK_MS ? (int)left : MIG_TICK_MS);
        }
        state = pq->PQconnectPoll(session->conn);
        if (state == PGRES_POLLING_FAILED)
            return fail_with_text(error, MIG_ECONNECT, pq->PQerrorMessage(session->conn));
    }
    return MIG_OK;
}

static mig_status start(mig_session *session, const char *const *keywords,
                        const char *const *values, mig_error *error)
{
    if (session->conn != NULL)
        session->pq.PQfinish(session->conn);
    session->conn = session->pq.PQconnectStartParams(keywords, values, 0);
    return session->conn != NULL ? MIG_OK : mig_fail(error, MIG_ENOMEM, "out of memory");
}

/* 0, 1 ... in their order, or shuffled. */
static void put_in_order(size_t *order, size_t count, bool shuffled)
{
    uint64_t random = (uint64_t)now_ms() ^ ((uint64_t)getpid() << 32) ^ (uintptr_t)order;
    for (size_t i = 0; i < count; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t j = shuffled ? (size_t)(random >> 33) % (i + 1) : i;
        if (j < i)
            order[i] = order[j];
        order[j] = i;
    }
}

/* libpq goes on to the next host when the time for one is over, but only in its blocking call: so
 * hosts are tried one by one here. `extra` is where the parameters of the attempt go: later ones
 * win. */
static mig_status try_hosts(mig_session *session, const effective *e, const char **keywords,
                            const char **values, size_t extra, size_t hosts, mig_arena *arena,
                            mig_error *error)
{
    bool prefer = e->target != NULL && strcmp(e->target, "prefer-standby") == 0;
    mig_error first = {.code = MIG_OK};
    size_t *order = mig_arena_get_array(arena, hosts, sizeof *order);
    if (order == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    put_in_order(order, hosts, e->balances);
    for (int pass = 0; pass < (prefer ? 2 : 1); pass++)
        for (size_t nth = 0; nth < hosts; nth++) {
            size_t i = order[nth];
            const char *const names[] = {"host", "hostaddr", "port", "target_session_attrs"};
            const char *const given[] = {item(e->host, i, arena), item(e->hostaddr, i, arena),
                                         item(e->port, i, arena),
                                         prefer ? (pass == 0 ? "standby" : "any") : NULL};
            size_t n = extra;
            for (size_t j = 0; j < 4; j++)
                if (given[j] != NULL) {
                    keywords[n] = names[j];
                    values[n++] = given[j];
                }
            keywords[n] = NULL;
            values[n] = NULL;
            mig_status status = start(session, keywords, values, error);
            if (status == MIG_OK)
                status = finish_connecting(session, e->timeout, error);
            if (status != MIG_ECONNECT)
                return status;
            size_t used = strlen(first.msg), length = strlen(error->msg);
            if (used + length + 2 < sizeof first.msg) {
                if (used > 0)
                    first.msg[used++] = '\n';
                memcpy(first.msg + used, error->msg, length + 1);
            }
        }
    return mig_fail(error, MIG_ECONNECT, "%s", first.msg);
}

mig_status mig_session_connect(mig_session *session, const char *const *keywords,
                               const char *const *values, size_t count, mig_error *error)
{
    mig_arena arena;
    mig_error local;
    mig_status status;
    effective e;
    if (error == NULL)
        error = &local;
    mig_arena_init(&arena, session->arena.alloc);
    const char **names = mig_arena_get_array(&arena, count + 6, sizeof *names);
    const char **texts = mig_arena_get_array(&arena, count + 6, sizeof *texts);
    if (names == NULL || texts == NULL) {
        status = mig_fail(error, MIG_ENOMEM, "out of memory");
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        names[i] = keywords[i];
        texts[i] = values[i];
    }
    /* All our text is UTF-8; a later parameter wins over an earlier one. */
    names[count] = "client_encoding";
    texts[count] = "UTF8";
    names[count + 1] = NULL;
    texts[count + 1] = NULL;
    status = start(session, names, texts, error);
    if (status != MIG_OK)
        goto done;
    read_effective(session, &arena, &e);
    size_t hosts = count_items(e.host), addresses = count_items(e.hostaddr);
    hosts = hosts > addresses ? hosts : addresses;
    if (hosts > 1 && e.timeout > 0 && session->pq.PQstatus(session->conn) != CONNECTION_BAD)
        status = try_hosts(session, &e, names, texts, count + 1, hosts, &arena, error);
    else
        status = finish_connecting(session, e.timeout, error);
    if (status == MIG_OK) {
        (void)session->pq.PQsetNoticeReceiver(session->conn, receive_notice, session);
        if (session->pq.PQsetnonblocking(session->conn, 1) != 0)
            status = fail_with_text(error, MIG_ECONNECT, session->pq.PQerrorMessage(session->conn));
    }
done:
    if (status != MIG_OK && session->conn != NULL) {
        session->pq.PQfinish(session->conn);
        session->conn = NULL;
    }
    mig_arena_release(&arena);
    return status;
}
