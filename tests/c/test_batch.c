/* A batch without a server, and files that are no libpq. */
#include "check.h"
#include "pq/batch.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void test_what_may_not_go_into_a_pipeline_needs_a_simple_query(void)
{
    static const struct {
        const char *sql;
        mig_status status;
        bool needs_simple_query;
    } CASES[] = {
        {"select 1", MIG_OK, false},
        {"", MIG_OK, false},
        {"select 1; select 2", MIG_OK, true},
        {"select (", MIG_OK, true},
        {"copy t from stdin", MIG_OK, true},
        {"select 'a\\n'", MIG_OK, false},
        {"select 'a\\'; select 'b'", MIG_OK, true},
        {"commit", MIG_EDECLINED, false},
    };
    mig_batch batch;
    mig_error error;
    mig_batch_init(&batch, &mig_alloc_system);
    for (size_t i = 0; i < COUNT(CASES); i++) {
        size_t before = batch.count;
        mig_status status = mig_batch_add(&batch, CASES[i].sql, strlen(CASES[i].sql), &error);
        CHECK_INT(status, CASES[i].status);
        CHECK_INT(batch.count, before + (CASES[i].status == MIG_OK));
        if (batch.count > before)
            CHECK_MSG(batch.statements[before].needs_simple_query == CASES[i].needs_simple_query,
                      "%s", CASES[i].sql);
    }
    CHECK_INT(mig_batch_add(&batch, "a\0b", 3, &error), MIG_EINVAL);
    mig_batch_release(&batch);
    CHECK_INT(batch.count, 0);
}

static void test_no_allocation_may_fail_unseen(void)
{
    for (size_t n = 1;; n++) {
        check_alloc allocator;
        mig_batch batch;
        mig_error error;
        mig_status status = MIG_OK;
        check_alloc_init(&allocator, n);
        mig_batch_init(&batch, &allocator.alloc);
        for (int i = 0; i < 2000 && status == MIG_OK; i++)
            status = mig_batch_add(&batch, "insert into t values (1)", 24, &error);
        mig_batch_release(&batch);
        CHECK_INT(allocator.live, 0);
        if (status == MIG_OK) {
            CHECK(n > 8);
            break;
        }
        CHECK_INT(status, MIG_ENOMEM);
    }
}

static void test_what_is_dropped_or_taken_back_leaves_the_rest_in_order(void)
{
    mig_batch batch;
    mig_error error;
    char sql[32];
    int next = 0, first = 0;
    mig_batch_init(&batch, &mig_alloc_system);
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < round % 7 + 1; i++) {
            int length = snprintf(sql, sizeof sql, "select %d", next++);
            mig_status status = mig_batch_add(&batch, sql, (size_t)length, &error);
            CHECK_INT(status, MIG_OK); /* which looks at its arguments twice */
        }
        if (round % 5 == 0) {
            mig_batch_pop(&batch, 1);
            next--;
        }
        size_t left = batch.count - batch.head, drop = left < 3 ? left : 3;
        batch.sent = batch.done = batch.head + drop; /* as if they had run */
        batch.failed = round % 2 == 0 ? MIG_BATCH_NONE : batch.done;
        CHECK_INT(mig_batch_good(&batch), batch.done);
        mig_batch_drop(&batch, drop);
        first += (int)drop;
        CHECK_INT(batch.done, batch.head);
        CHECK_INT(batch.sent, batch.head);
        CHECK(batch.failed == MIG_BATCH_NONE || batch.failed == batch.head);
        CHECK_INT(batch.count - batch.head, next - first);
        for (size_t i = batch.head; i < batch.count; i++) {
            (void)snprintf(sql, sizeof sql, "select %d", first + (int)(i - batch.head));
            CHECK_STR(batch.statements[i].sql, sql);
        }
    }
    mig_batch_release(&batch);
}

/* A fake connection: `conn` points to one of these. */
typedef struct server {
    PGTransactionStatusType transaction;
    int pipeline;
    const char *encoding, *strings;
    int version;
} server;

static ConnStatusType status_of(const PGconn *conn)
{
    (void)conn;
    return CONNECTION_OK;
}

static PGTransactionStatusType transaction_of(const PGconn *conn)
{
    return ((const server *)(const void *)conn)->transaction;
}

static int pipeline_of(const PGconn *conn)
{
    return ((const server *)(const void *)conn)->pipeline;
}

static const char *parameter_of(const PGconn *conn, const char *name)
{
    const server *s = (const server *)(const void *)conn;
    if (s == NULL)
        return NULL;
    if (strcmp(name, "client_encoding") == 0)
        return s->encoding;
    return strcmp(name, "standard_conforming_strings") == 0 ? s->strings : NULL;
}

static int version_of(const PGconn *conn)
{
    int version = ((const server *)(const void *)conn)->version;
    return version != 0 ? version : 180000;
}

static void open_session(mig_session *session, server *s, int has_pipeline)
{
    mig_libpq table = {.version = has_pipeline ? 150000 : 130009,
                       .has_pipeline = has_pipeline,
                       .PQstatus = status_of,
                       .PQtransactionStatus = transaction_of,
                       .PQparameterStatus = parameter_of,
                       .PQserverVersion = version_of,
                       .PQpipelineStatus = pipeline_of};
    mig_hook never = {NULL, NULL, NULL, NULL};
    mig_error error;
    mig_session_init(session, &table, &mig_alloc_system, never);
    CHECK(mig_session_borrow(session, (PGconn *)(void *)s, &error) == MIG_OK);
}

static void test_a_libpq_without_pipelines_leaves_the_plain_path(void)
{
    server s = {PQTRANS_INTRANS, 0, "UTF8", "on", 0};
    char why[MIG_BATCH_REASON_SIZE];
    mig_session session;
    mig_batch batch;
    mig_error error;
    open_session(&session, &s, 0);
    mig_batch_init(&batch, &mig_alloc_system);
    CHECK_INT(mig_batch_judge(&batch, &session, "select 1", 8, false, why), MIG_BATCH_FITS_NOT);
    CHECK_STR(why, "a libpq without pipelines");
    CHECK(mig_batch_add(&batch, "select 1", 8, &error) == MIG_OK);
    CHECK(mig_batch_run(&batch, &session, &error) == MIG_EINTERNAL);
    CHECK_INT(batch.statements[0].state, MIG_STATEMENT_PENDING);
    CHECK_INT(session.sent, 0);
    CHECK(mig_batch_run(&batch, &session, &error) == MIG_EINTERNAL); /* FAILED stays */
    mig_batch_release(&batch);
    mig_session_release(&session);
}

#define UMLAUT "comment on table a is '\xc3\xa9'"
#define WINDOWS "create table a (b text default 'C:\\')"

static void test_what_may_wait_is_decided_before_it_is_queued(void)
{
    static const struct {
        const char *sql, *encoding, *strings, *before, *why;
        mig_batch_fit fit;
    } CASES[] = {
        {"create table a ()", "UTF8", "on", NULL, "", MIG_BATCH_FITS},
        {"create table a ()", "LATIN1", "on", NULL, "", MIG_BATCH_FITS},
        {"create table a ()", "SHIFT_JIS_2004", "on", NULL, "client_encoding is not UTF8",
         MIG_BATCH_FITS_NOT},
        {"create table a ()", "", "on", NULL, "client_encoding is not UTF8", MIG_BATCH_FITS_NOT},
        {UMLAUT, "UTF8", "on", NULL, "", MIG_BATCH_FITS},
        {UMLAUT, "LATIN1", "on", NULL, "client_encoding is not UTF8", MIG_BATCH_FITS_NOT},
        {UMLAUT, "SQL_ASCII", "on", NULL, "client_encoding is not UTF8", MIG_BATCH_FITS_NOT},
        {WINDOWS, "UTF8", "on", NULL, "", MIG_BATCH_FITS},
        {WINDOWS, "UTF8", "off", NULL, "unsure", MIG_BATCH_FITS_NOT},
        {"select 'a\\'; commit; --'", "UTF8", "on", NULL, "several", MIG_BATCH_FITS_NOT},
        {"select 'a\\'; commit; --'", "UTF8", "off", NULL, "", MIG_BATCH_FITS},
        /* what is on its way may change how the next is read */
        {UMLAUT, "UTF8", "on", "select f()", "", MIG_BATCH_FITS_LATER},
        {WINDOWS, "UTF8", "on", "do $$ $$", "", MIG_BATCH_FITS_LATER},
        {UMLAUT, "UTF8", "on", "create table a ()", "", MIG_BATCH_FITS},
        {"create table b ()", "UTF8", "on", "select f()", "", MIG_BATCH_FITS},
        /* only what is on the list */
        {"select 1; select 2", "UTF8", "on", NULL, "several", MIG_BATCH_FITS_NOT},
        {"-- nothing", "UTF8", "on", NULL, "none", MIG_BATCH_FITS_NOT},
        {"select (", "UTF8", "on", NULL, "unsure", MIG_BATCH_FITS_NOT},
        {"commit", "UTF8", "on", NULL, "COMMIT", MIG_BATCH_FITS_NOT},
        {"set search_path to a", "UTF8", "on", NULL, "", MIG_BATCH_FITS},
        {"SET LOCAL Statement_Timeout = '1s'", "UTF8", "on", NULL, "", MIG_BATCH_FITS},
        {"set time zone 'UTC'", "UTF8", "on", NULL, "", MIG_BATCH_FITS},
        {"reset lock_timeout", "UTF8", "on", NULL, "", MIG_BATCH_FITS},
        {"set session app.user = 'x'", "UTF8", "on", NULL, "", MIG_BATCH_FITS},
        {"set constraints all immediate", "UTF8", "on", NULL, "", MIG_BATCH_FITS},
        {"set search_path to a; set role b", "UTF8", "on", NULL, "several", MIG_BATCH_FITS_NOT},
        {"set role a", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"set local role = a", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"set session authorization a", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"set session_authorization to a", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"set transaction read only", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"set session characteristics as transaction read only", "UTF8", "on", NULL, "SET",
         MIG_BATCH_FITS_NOT},
        {"set names 'UTF8'", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"set client_encoding = 'UTF8'", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"set standard_conforming_strings = on", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"set backslash_quote = on", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"set intervalstyle = iso_8601", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"set transaction_isolation = 'serializable'", "UTF8", "on", NULL, "SET",
         MIG_BATCH_FITS_NOT},
        {"set \"search_path\" to a", "UTF8", "on", NULL, "SET", MIG_BATCH_FITS_NOT},
        {"reset all", "UTF8", "on", NULL, "RESET", MIG_BATCH_FITS_NOT},
        {"reset role", "UTF8", "on", NULL, "RESET", MIG_BATCH_FITS_NOT},
        {"reset session authorization", "UTF8", "on", NULL, "RESET", MIG_BATCH_FITS_NOT},
        {"discard all", "UTF8", "on", NULL, "DISCARD", MIG_BATCH_FITS_NOT},
        {UMLAUT, "UTF8", "on", "set search_path to a", "", MIG_BATCH_FITS},
        {UMLAUT, "UTF8", "on", "set app.user = 'x'", "", MIG_BATCH_FITS_LATER},
        {UMLAUT, "UTF8", "on", "set constraints all immediate", "", MIG_BATCH_FITS_LATER},
        {"frobnicate", "UTF8", "on", NULL, "FROBNICATE", MIG_BATCH_FITS_NOT},
        {"(select 1)", "UTF8", "on", NULL, "no command", MIG_BATCH_FITS_NOT},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        server s = {PQTRANS_INTRANS, 0, CASES[i].encoding, CASES[i].strings, 0};
        char why[MIG_BATCH_REASON_SIZE] = "";
        mig_session session;
        mig_batch batch;
        mig_error error;
        open_session(&session, &s, 1);
        mig_batch_init(&batch, &mig_alloc_system);
        if (CASES[i].before != NULL)
            CHECK(mig_batch_add_judged(&batch, CASES[i].before, strlen(CASES[i].before), false,
                                       &error) == MIG_OK);
        mig_batch_fit fit =
            mig_batch_judge(&batch, &session, CASES[i].sql, strlen(CASES[i].sql), false, why);
        CHECK_MSG(fit == CASES[i].fit, "%s: %d", CASES[i].sql, (int)fit);
        CHECK_STR(why, CASES[i].why);
        mig_batch_release(&batch);
        mig_session_release(&session);
    }
}

static void test_an_old_server_times_a_whole_pipeline(void)
{
    const char *const SET = "set statement_timeout = 1";
    static const int VERSIONS[] = {100023, 110000};
    for (size_t i = 0; i < COUNT(VERSIONS); i++) {
        server s = {PQTRANS_INTRANS, 0, "UTF8", "on", VERSIONS[i]};
        char why[MIG_BATCH_REASON_SIZE];
        mig_session session;
        mig_batch batch;
        open_session(&session, &s, 1);
        mig_batch_init(&batch, &mig_alloc_system);
        CHECK_INT(mig_batch_judge(&batch, &session, SET, strlen(SET), false, why),
                  i == 0 ? MIG_BATCH_FITS_NOT : MIG_BATCH_FITS);
        mig_batch_release(&batch);
        mig_session_release(&session);
    }
}

static void test_a_statement_that_changes_nothing_holds_nothing_up(void)
{
    server s = {PQTRANS_INTRANS, 0, "UTF8", "on", 0};
    char why[MIG_BATCH_REASON_SIZE];
    mig_session session;
    mig_batch batch;
    mig_error error;
    const char *row = "update alembic_version set version_num = 'b'";
    open_session(&session, &s, 1);
    mig_batch_init(&batch, &mig_alloc_system);
    CHECK(mig_batch_add_judged(&batch, row, strlen(row), true, &error) == MIG_OK);
    CHECK_INT(mig_batch_judge(&batch, &session, UMLAUT, strlen(UMLAUT), false, why),
              MIG_BATCH_FITS);
    CHECK(mig_batch_add_judged(&batch, row, strlen(row), false, &error) == MIG_OK);
    CHECK_INT(mig_batch_judge(&batch, &session, UMLAUT, strlen(UMLAUT), false, why),
              MIG_BATCH_FITS_LATER);
    mig_batch_release(&batch);
    mig_session_release(&session);
}

static void test_the_first_of_a_batch_is_judged_by_the_connection(void)
{
    static const struct {
        server s;
        bool begins;
        const char *why;
    } CASES[] = {
        {{PQTRANS_INTRANS, 0, "UTF8", "on", 0}, false, NULL},
        {{PQTRANS_IDLE, 0, "UTF8", "on", 0}, true, NULL},
        {{PQTRANS_IDLE, 0, "UTF8", "on", 0}, false, "not in a transaction"},
        {{PQTRANS_INTRANS, 0, "UTF8", "on", 0}, true, "not in a transaction"},
        {{PQTRANS_INERROR, 0, "UTF8", "on", 0}, false, "not in a transaction"},
        {{PQTRANS_ACTIVE, 0, "UTF8", "on", 0}, false, "the connection is in use"},
        {{PQTRANS_INTRANS, 1, "UTF8", "on", 0}, false, "the driver is in a pipeline"},
    };
    for (size_t i = 0; i < COUNT(CASES); i++) {
        server s = CASES[i].s;
        char why[MIG_BATCH_REASON_SIZE] = "";
        mig_session session;
        mig_batch batch;
        open_session(&session, &s, 1);
        mig_batch_init(&batch, &mig_alloc_system);
        mig_batch_fit fit = mig_batch_judge(&batch, &session, "select 1", 8, CASES[i].begins, why);
        CHECK_INT(fit, CASES[i].why == NULL ? MIG_BATCH_FITS : MIG_BATCH_FITS_NOT);
        CHECK_STR(why, CASES[i].why == NULL ? "" : CASES[i].why);
        session.conn = NULL;
        CHECK_INT(mig_batch_judge(&batch, &session, "select 1", 8, CASES[i].begins, why),
                  MIG_BATCH_FITS_NOT);
        CHECK_STR(why, "the connection is closed");
        mig_batch_release(&batch);
        mig_session_release(&session);
    }
}

static void test_a_file_that_is_no_libpq_is_refused(void)
{
    mig_libpq table;
    mig_error error;
    CHECK_INT(mig_libpq_load(&table, "/nonexistent/libpq.so.5", &error), MIG_EIO);
    CHECK_INT(mig_libpq_borrow(&table, "/nonexistent/driver.so", &error), MIG_EDECLINED);
    CHECK(table.handle == NULL);
    mig_libpq_release(&table);
}

int main(void)
{
    test_what_may_not_go_into_a_pipeline_needs_a_simple_query();
    test_what_is_dropped_or_taken_back_leaves_the_rest_in_order();
    test_no_allocation_may_fail_unseen();
    test_a_libpq_without_pipelines_leaves_the_plain_path();
    test_what_may_wait_is_decided_before_it_is_queued();
    test_an_old_server_times_a_whole_pipeline();
    test_a_statement_that_changes_nothing_holds_nothing_up();
    test_the_first_of_a_batch_is_judged_by_the_connection();
    test_a_file_that_is_no_libpq_is_refused();
    return check_report();
}
