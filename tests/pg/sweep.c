/*
 * Makes each allocation of ours fail in turn while a real server answers: `sweep HOST PORT USER
 * DBNAME [PASSWORD]`. Whatever fails, the session is left or released in good order, and nothing
 * stays allocated.
 */
#include "../c/check.h"

#include "pq/batch.h"
#include "pq/connect.h"
#include "pq/session.h"
#include "pq/version_table.h"

static const char *const KEYWORDS[] = {"host", "port", "user", "dbname", "password"};

static mig_status play(const mig_alloc *alloc, char **values, size_t count)
{
    mig_libpq table;
    mig_error error;
    mig_session session;
    mig_arena arena;
    mig_batch batch;
    mig_rows rows;
    mig_version_rows heads;
    mig_hook never = {NULL, NULL, NULL, NULL};
    size_t statements;
    const mig_version_table version = {"sweep \" version", NULL};
    const mig_version_op insert = {.kind = MIG_VERSION_INSERT, .to = MIG_TEXT("a")};
    mig_arena_init(&arena, alloc);
    mig_batch_init(&batch, alloc);
    mig_status status = mig_libpq_load(&table, getenv("MIGRATE_EXT_LIBPQ"), &error);
    if (status != MIG_OK)
        exit(2);
    mig_session_init(&session, &table, alloc, never);
    status = mig_session_connect(&session, KEYWORDS, (const char *const *)values, count, &error);
    if (status == MIG_OK)
        status = mig_session_begin(&session, &error);
    if (status == MIG_OK)
        status = mig_version_table_create(&session, &version, true, &error);
    if (status == MIG_OK)
        status = mig_version_table_apply(&session, &version, &insert, 1, &statements, &error);
    if (status == MIG_OK)
        status = mig_version_table_read(&session, &version, &arena, &heads, &error);
    if (status == MIG_OK)
        status =
            mig_session_query(&session, "do $$begin raise notice 'x'; end$$", &arena, NULL, &error);
    for (int i = 0; i < 200 && status == MIG_OK; i++)
        status =
            mig_batch_add(&batch, i == 150 ? "select 1/0" : "select 1", i == 150 ? 10 : 8, &error);
    if (status == MIG_OK && (status = mig_batch_run(&batch, &session, &error)) == MIG_ESERVER) {
        CHECK_INT(batch.failed, 150);
        CHECK_STR(session.diagnostics.sqlstate, "22012");
        status = MIG_OK;
    }
    mig_batch_release(&batch);
    /* The same, sent while it is added; its results are dropped as they come. */
    if (status == MIG_OK)
        status = mig_session_query(&session, "rollback; begin", &arena, &rows, &error);
    for (int i = 0; i < 100 && status == MIG_OK; i++) {
        status = mig_batch_add(&batch, "select 1", 8, &error);
        if (status == MIG_OK)
            status = mig_batch_poll(&batch, &session, &error);
        if (status == MIG_OK)
            mig_batch_drop(&batch, mig_batch_good(&batch) - batch.head);
        if (status == MIG_OK && i % 10 == 9)
            status = mig_batch_send_rest(&batch, &session, &error);
    }
    mig_batch_abandon(&batch, &session);
    CHECK(!mig_batch_in_flight(&batch));
    if (session.conn != NULL) {
        mig_error ignored;
        CHECK(!session.pq.PQisBusy(session.conn));
        CHECK(session.pq.PQpipelineStatus(session.conn) == 0);
        if (status == MIG_ENOMEM)
            /* The connection still answers, each question its own answer. */
            CHECK(mig_session_rollback(&session, &ignored) == MIG_OK);
        else if (status == MIG_OK)
            status = mig_session_query(&session, "rollback; select 1", &arena, &rows, &error);
    }
    mig_batch_release(&batch);
    mig_arena_release(&arena);
    mig_session_release(&session);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc > 6)
        return 2;
    for (size_t n = 1;; n++) {
        check_alloc allocator;
        check_alloc_init(&allocator, n);
        mig_status status = play(&allocator.alloc, argv + 1, (size_t)argc - 1);
        CHECK_INT(allocator.live, 0);
        if (status == MIG_OK && (allocator.fail_at > allocator.allocations)) {
            CHECK(n > 5);
            break;
        }
        CHECK_MSG(status == MIG_ENOMEM || status == MIG_OK, "allocation %zu: status %d", n,
                  (int)status);
    }
    return check_report();
}
