/* The questions about the lock as texts: names of any bytes stay inside their strings. */
#include "check.h"
#include "core/sql_lexer.h"
#include "pq/lock.h"

static void test_names_are_quoted(void)
{
    static const struct {
        const char *name, *expected;
    } CASES[] = {
        {"alembic_version", "E'alembic_version'"},
        {"", "E''"},
        {"it's", "E'it''s'"},
        {"a\\b", "E'a\\\\b'"},
        {"\\'); DROP TABLE x; --", "E'\\\\''); DROP TABLE x; --'"},
        {"gr\xC3\xBC\xC3\x9F", "E'gr\\U000000FC\\U000000DF'"},
        {"\xE2\x82\xAC", "E'\\U000020AC'"},
        {"\xF0\x9F\x98\x80", "E'\\U0001F600'"},
        {"\xF4\x8F\xBF\xBF", "E'\\U0010FFFF'"},
        /* no UTF-8: a lone byte, cut off, overlong, a surrogate, beyond the last */
        {"\xFF", "E'\\U0000FFFD'"},
        {"\xC3", "E'\\U0000FFFD'"},
        {"\xC0\xA7", "E'\\U0000FFFD\\U0000FFFD'"},
        {"\xED\xA0\x80", "E'\\U0000FFFD\\U0000FFFD\\U0000FFFD'"},
        {"\xF4\x90\x80\x80", "E'\\U0000FFFD\\U0000FFFD\\U0000FFFD\\U0000FFFD'"},
        {"\xE2\x82'", "E'\\U0000FFFD\\U0000FFFD'''"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        mig_arena arena;
        const char *sql;
        mig_error error;
        mig_arena_init(&arena, &mig_alloc_system);
        const mig_version_table named = {"t", CASES[i].name};
        const mig_version_table table = {CASES[i].name, NULL};
        CHECK_INT(mig_lock_sql_try(&table, true, 7, &arena, &sql, &error), MIG_OK);
        CHECK_MSG(strstr(sql, CASES[i].expected) != NULL, "%s in %s", CASES[i].expected, sql);
        CHECK_INT(mig_sql_classify(sql, strlen(sql), true).kind, MIG_SQL_ONE);
        CHECK_INT(mig_sql_classify(sql, strlen(sql), false).kind, MIG_SQL_ONE);
        CHECK_INT(mig_lock_sql_try(&named, false, 0, &arena, &sql, &error), MIG_OK);
        CHECK((*CASES[i].name == '\0') == (strstr(sql, "to_regclass") != NULL));
        if (*CASES[i].name != '\0')
            CHECK_MSG(strstr(sql, CASES[i].expected) != NULL, "%s in %s", CASES[i].expected, sql);
        mig_arena_release(&arena);
    }
}

static void test_each_question_is_its_own(void)
{
    mig_arena arena;
    const char *sql;
    mig_error error;
    const mig_version_table table = {"alembic_version", NULL};
    mig_arena_init(&arena, &mig_alloc_system);
    CHECK_INT(mig_lock_sql_try(&table, true, 7, &arena, &sql, &error), MIG_OK);
    CHECK(strstr(sql, "pg_backend_pid() = 7 THEN pg_catalog.pg_try_advisory_lock(") != NULL);
    CHECK_INT(mig_lock_sql_try(&table, true, 0, &arena, &sql, &error), MIG_OK);
    CHECK(strstr(sql, "pg_backend_pid") == NULL && strstr(sql, "pg_try_advisory_lock(") != NULL);
    CHECK_INT(mig_lock_sql_try(&table, false, 7, &arena, &sql, &error), MIG_OK);
    CHECK(strstr(sql, "pg_backend_pid") == NULL);
    CHECK(strstr(sql, "pg_try_advisory_xact_lock(") != NULL);
    CHECK_INT(mig_lock_sql_holders(INT64_C(-2), &arena, &sql, &error), MIG_OK);
    CHECK(strstr(sql, "l.classid = 4294967295 AND l.objid = 4294967294\n") != NULL);
    CHECK_INT(mig_lock_sql_holders(INT64_C(0x100000002), &arena, &sql, &error), MIG_OK);
    CHECK(strstr(sql, "l.classid = 1 AND l.objid = 2\n") != NULL);
    CHECK_INT(mig_lock_sql_invalid("a it's", &arena, &sql, &error), MIG_OK);
    CHECK(strstr(sql, "E'a it''s'") != NULL);
    CHECK_INT(mig_sql_classify(sql, strlen(sql), true).kind, MIG_SQL_ONE);
    mig_arena_release(&arena);
}

static void test_every_allocation_may_fail(void)
{
    const mig_version_table table = {"alembic_version", "app"};
    for (size_t n = 1;; n++) {
        check_alloc allocator;
        mig_arena arena;
        const char *sql;
        mig_error error;
        check_alloc_init(&allocator, n);
        mig_arena_init(&arena, &allocator.alloc);
        mig_status status = mig_lock_sql_try(&table, true, 7, &arena, &sql, &error);
        if (status == MIG_OK)
            status = mig_lock_sql_holders(1, &arena, &sql, &error);
        if (status == MIG_OK)
            status = mig_lock_sql_invalid("a b", &arena, &sql, &error);
        mig_arena_release(&arena);
        CHECK_INT(allocator.live, 0);
        if (status == MIG_OK)
            break;
        CHECK_INT(status, MIG_ENOMEM);
    }
}

int main(void)
{
    test_names_are_quoted();
    test_each_question_is_its_own();
    test_every_allocation_may_fail();
    return check_report();
}
