/* Starting a connection, host by host. */
#include "pq/connect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pq/session_internal.h"

/* The parameters that libpq uses: those given, and those of the environment, a service file and its
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

/* Poll the connection that was started until it is made or has failed. */
static mig_status finish_connecting(mig_session *session, int timeout, mig_error *error)
{
    const mig_libpq *pq = &session->pq;
    int64_t until = mig_now_ms() + (int64_t)timeout * 1000;
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;
    if (pq->PQstatus(session->conn) == CONNECTION_BAD)
        return mig_fail_with_libpq_text(error, MIG_ECONNECT, pq->PQerrorMessage(session->conn));
    while (state != PGRES_POLLING_OK) {
        int fd = pq->PQsocket(session->conn);
        bool reading = state == PGRES_POLLING_READING;
        int ready = mig_poll_socket(fd, reading, !reading, 0);
        if (ready == 0 && reading)
            session->waits++;
        while (ready <= 0) {
            if (ready < 0 && errno != EINTR)
                return mig_fail(error, MIG_EIO, "cannot wait for the server: poll failed");
            if (mig_session_asks_to_stop(session))
                return mig_fail(error, MIG_EINTR, "interrupted");
            int64_t left = until - mig_now_ms();
            if (timeout > 0 && left <= 0)
                return mig_fail(error, MIG_ECONNECT,
                                "connection to the server failed: timeout expired");
            ready = mig_poll_socket(fd, reading, !reading,
                                    timeout > 0 && left < MIG_TICK_MS ? (int)left : MIG_TICK_MS);
        }
        state = pq->PQconnectPoll(session->conn);
        if (state == PGRES_POLLING_FAILED)
            return mig_fail_with_libpq_text(error, MIG_ECONNECT, pq->PQerrorMessage(session->conn));
    }
    return MIG_OK;
}

static mig_status start(mig_session *session, const char *const *keywords,
                        const char *const *values, mig_error *error)
{
    if (session->conn != NULL)
        session->pq.PQfinish(session->conn);
    session->conn = session->pq.PQconnectStartParams(keywords, values, 0);
    return session->conn != NULL ? MIG_OK : mig_fail_memory(error);
}

/* 0, 1 ... in their order, or shuffled. */
static void put_in_order(size_t *order, size_t count, bool shuffled)
{
    uint64_t random = (uint64_t)mig_now_ms() ^ ((uint64_t)getpid() << 32) ^ (uintptr_t)order;
    for (size_t i = 0; i < count; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t j = shuffled ? (size_t)(random >> 33) % (i + 1) : i;
        if (j < i)
            order[i] = order[j];
        order[j] = i;
    }
}

/* See connect.h. `extra` is where the parameters of the attempt go: later ones win. */
static mig_status try_hosts(mig_session *session, const effective *e, const char **keywords,
                            const char **values, size_t extra, size_t hosts, mig_arena *arena,
                            mig_error *error)
{
    bool prefer = e->target != NULL && strcmp(e->target, "prefer-standby") == 0;
    mig_error first = {.code = MIG_OK};
    size_t *order = mig_arena_get_array(arena, hosts, sizeof *order);
    if (order == NULL)
        return mig_fail_memory(error);
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
        status = mig_fail_memory(error);
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
        mig_session_collect_notices(session);
        if (session->pq.PQsetnonblocking(session->conn, 1) != 0)
            status = mig_fail_with_libpq_text(error, MIG_ECONNECT,
                                              session->pq.PQerrorMessage(session->conn));
    }
done:
    if (status != MIG_OK && session->conn != NULL) {
        session->pq.PQfinish(session->conn);
        session->conn = NULL;
    }
    mig_arena_release(&arena);
    return status;
}
