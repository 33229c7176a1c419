/* The SQL lexer without Python: a table over every state it has. */
#include "check.h"
#include "core/sql_lexer.h"

typedef struct lex_case {
    const char *sql;
    mig_sql_kind kind;
    const char *keyword;
} lex_case;

static const lex_case CASES[] = {
    {"", MIG_SQL_NONE, ""},
    {" ; -- x\n ;/* /* ; */ */", MIG_SQL_NONE, ""},
    {"select 1", MIG_SQL_ONE, "SELECT"},
    {";select 1;;", MIG_SQL_ONE, "SELECT"},
    {"select 1; select 2", MIG_SQL_SEVERAL, "SELECT"},
    {"select ';'';'", MIG_SQL_ONE, "SELECT"},
    {"select e'\\';'", MIG_SQL_ONE, "SELECT"},
    {"select e'a'\n'\\';'", MIG_SQL_ONE, "SELECT"},
    {"select e'a' '\\';'", MIG_SQL_UNSURE, "SELECT"},
    {"select '\\';'", MIG_SQL_UNSURE, "SELECT"},
    {"select fe'\\'; select 2", MIG_SQL_SEVERAL, "SELECT"},
    {"select u&';', U&\";\", b';', X';', N';'", MIG_SQL_ONE, "SELECT"},
    {"select \";\"\";\"", MIG_SQL_ONE, "SELECT"},
    {"select \"\"", MIG_SQL_UNSURE, "SELECT"},
    {"select $$;$$, $a$;$$;$b$;$a$", MIG_SQL_ONE, "SELECT"},
    {"select a$$;select $$;$$", MIG_SQL_SEVERAL, "SELECT"},
    {"select $1;select $2", MIG_SQL_SEVERAL, "SELECT"},
    {"select $a$;", MIG_SQL_UNSURE, "SELECT"},
    {"select $a", MIG_SQL_UNSURE, "SELECT"},
    {"select $", MIG_SQL_UNSURE, "SELECT"},
    {"select 1e'\\'", MIG_SQL_UNSURE, "SELECT"},
    {"select /* ;", MIG_SQL_UNSURE, "SELECT"},
    {"select (1;2)", MIG_SQL_UNSURE, "SELECT"},
    {"select )", MIG_SQL_UNSURE, "SELECT"},
    {"\\d", MIG_SQL_UNSURE, ""},
    {"create rule r as on insert to t do (a; b)", MIG_SQL_ONE, "CREATE"},
    {"create or replace rule r as on insert to t do (a; b); x", MIG_SQL_SEVERAL, "CREATE"},
    {"create function f() begin atomic a; b; end", MIG_SQL_ONE, "CREATE"},
    {"create procedure f() begin atomic case a; end; end;", MIG_SQL_ONE, "CREATE"},
    {"create function f() begin atomic a as end; end", MIG_SQL_UNSURE, "CREATE"},
    {"create function f() begin atomic a end b; end", MIG_SQL_UNSURE, "CREATE"},
    {"create function f() begin atomic a;", MIG_SQL_UNSURE, "CREATE"},
    {"create table f() begin atomic a; end", MIG_SQL_SEVERAL, "CREATE"},
    {"averyveryverylongword x", MIG_SQL_ONE, "AVERYVERYVERYLO"},
};

static void test_statements_are_counted_as_the_server_counts_them(void)
{
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        size_t length = strlen(CASES[i].sql);
        char *exact = malloc(length > 0 ? length : 1);
        memcpy(exact, CASES[i].sql, length);
        mig_sql_info info = mig_sql_classify(exact, length, true);
        CHECK_MSG(info.kind == CASES[i].kind, "%s: %d", CASES[i].sql, (int)info.kind);
        CHECK_STR(info.keyword, CASES[i].keyword);
        free(exact);
    }
}

static void test_the_parameter_that_a_statement_sets_is_told(void)
{
    static const char *const SETS[][2] = {
        {"set a = 1", "a"},
        {";/* x */SET -- y\n LOCAL Work_Mem/**/TO 1", "work_mem"},
        {"set session a.B.c=1", "a.b.c"},
        {"set a . b to 1", "a.b"},
        {"set local time zone 'UTC'", "timezone"},
        {"set time zone default", "timezone"},
        {"set schema 'a'", "search_path"},
        {"reset a", "a"},
        {"reset a.b", "a.b"},
        {"reset time zone", "timezone"},
        {"reset all", "all"},
        {"set a = 1; set b = 1", "a"},
        {"set session authorization b", ""},
        {"set session characteristics as transaction read only", ""},
        {"set transaction read only", ""},
        {"set constraints all deferred", ""},
        {"set role b", ""},
        {"set names 'x'", ""},
        {"set time", ""},
        {"set time 'x'", ""},
        {"set schema x", ""},
        {"set \"a\" = 1", ""},
        {"set u&\"a\" = 1", ""},
        {"set a. = 1", ""},
        {"set a", ""},
        {"set", ""},
        {"set local", ""},
        {"reset", ""},
        {"reset 'a'", ""},
        {"set a\xc3\xa4 = 1", ""},
        {"set a_name_of_sixty_three_bytes_is_the_longest_that_is_told_of_these = 1", ""},
        {"set a.nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn = 1",
         "a.nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"},
        {"set a.nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn = 1", ""},
        {"set a.nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn.x = 1", ""},
        {"update a set b = 1", ""},
        {"settle a = 1", ""},
        {"select 1; set a = 1", ""},
    };
    for (size_t i = 0; i < sizeof SETS / sizeof SETS[0]; i++) {
        for (size_t length = 0; length <= strlen(SETS[i][0]); length++) {
            char *exact = malloc(length > 0 ? length : 1);
            memcpy(exact, SETS[i][0], length);
            mig_sql_info info = mig_sql_classify(exact, length, true);
            if (length == strlen(SETS[i][0]))
                CHECK_STR(info.parameter, SETS[i][1]);
            free(exact);
        }
    }
}

static void test_a_prefix_of_a_text_is_never_read_beyond(void)
{
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++)
        for (size_t length = 0; length <= strlen(CASES[i].sql); length++) {
            char *exact = malloc(length > 0 ? length : 1);
            memcpy(exact, CASES[i].sql, length);
            (void)mig_sql_classify(exact, length, true);
            (void)mig_sql_classify(exact, length, false);
            free(exact);
        }
    CHECK(1);
}

static void test_a_backslash_depends_on_the_setting(void)
{
    const char sql[] = "select 'a\\'; select 'b'";
    CHECK_INT(mig_sql_classify(sql, sizeof sql - 1, true).kind, MIG_SQL_SEVERAL);
    CHECK_INT(mig_sql_classify(sql, sizeof sql - 1, false).kind, MIG_SQL_UNSURE);
}

static void test_transaction_control_is_known(void)
{
    static const char *const ENDS[] = {
        "begin", "START TRANSACTION",      "commit;", "/**/end", "Rollback",
        "ABORT", "prepare transaction 'x'"};
    static const char *const STAYS[] = {"savepoint a", "release a", "prepare p as select 1",
                                        "select 1", "(begin)"};
    for (size_t i = 0; i < sizeof ENDS / sizeof ENDS[0]; i++) {
        mig_sql_info info = mig_sql_classify(ENDS[i], strlen(ENDS[i]), true);
        CHECK(mig_sql_changes_transaction(&info));
    }
    for (size_t i = 0; i < sizeof STAYS / sizeof STAYS[0]; i++) {
        mig_sql_info info = mig_sql_classify(STAYS[i], strlen(STAYS[i]), true);
        CHECK(!mig_sql_changes_transaction(&info));
    }
}

static void test_the_first_end_of_a_transaction_is_told(void)
{
    const char sql[] = "rollback to a; select 1; abort; commit";
    CHECK_INT(mig_sql_classify(sql, sizeof sql - 1, true).ending, MIG_SQL_ROLLS_BACK);
    CHECK_INT(mig_sql_classify("end", 3, true).ending, MIG_SQL_COMMITS);
    CHECK_INT(mig_sql_classify("ending", 6, true).ending, MIG_SQL_GOES_ON);
}

int main(void)
{
    test_statements_are_counted_as_the_server_counts_them();
    test_the_parameter_that_a_statement_sets_is_told();
    test_a_prefix_of_a_text_is_never_read_beyond();
    test_a_backslash_depends_on_the_setting();
    test_transaction_control_is_known();
    test_the_first_end_of_a_transaction_is_told();
    return check_report();
}
