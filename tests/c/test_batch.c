/* What a batch does before it meets a server, and a library that is none. */
#include "check.h"
#include "pq/batch.h"

static void test_what_may_not_go_into_a_pipeline_goes_alone(void)
{
    static const struct {
        const char *sql;
        mig_status status;
        bool alone;
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
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        size_t before = batch.count;
        mig_status status = mig_batch_add(&batch, CASES[i].sql, strlen(CASES[i].sql), &error);
        CHECK_INT(status, CASES[i].status);
        CHECK_INT(batch.count, before + (CASES[i].status == MIG_OK));
        if (batch.count > before)
            CHECK_MSG(batch.statements[before].alone == CASES[i].alone, "%s", CASES[i].sql);
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

static ConnStatusType always_connected(const PGconn *conn)
{
    (void)conn;
    return CONNECTION_OK;
}

static PGTransactionStatusType always_in_transaction(const PGconn *conn)
{
    (void)conn;
    return PQTRANS_INTRANS;
}

static void test_a_libpq_without_pipelines_leaves_the_plain_path(void)
{
    mig_libpq table = {.version = 130009,
                       .PQstatus = always_connected,
                       .PQtransactionStatus = always_in_transaction};
    mig_hook never = {NULL, NULL};
    mig_session session;
    mig_batch batch;
    mig_error error;
    int nothing;
    mig_session_init(&session, &table, &mig_alloc_system, never);
    mig_batch_init(&batch, &mig_alloc_system);
    CHECK(mig_session_borrow(&session, (PGconn *)&nothing, &error) == MIG_OK);
    CHECK(mig_batch_add(&batch, "select 1", 8, &error) == MIG_OK);
    CHECK(mig_batch_run(&batch, &session, &error) == MIG_EDECLINED);
    CHECK_INT(batch.statements[0].state, MIG_STATEMENT_PENDING);
    mig_batch_release(&batch);
    mig_session_release(&session);
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
    test_what_may_not_go_into_a_pipeline_goes_alone();
    test_what_is_dropped_or_taken_back_leaves_the_rest_in_order();
    test_no_allocation_may_fail_unseen();
    test_a_libpq_without_pipelines_leaves_the_plain_path();
    test_a_file_that_is_no_libpq_is_refused();
    return check_report();
}
