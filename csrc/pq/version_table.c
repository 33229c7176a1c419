#include "pq/version_table.h"

#include <string.h>

#include "core/text.h"
#include "pq/batch.h"

/* SQLAlchemy quotes these; sqlalchemy/dialects/postgresql/base.py RESERVED_WORDS, 2.1.9. */
static const char *const RESERVED_WORDS[] = {
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "between",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "new",
    "not",
    "notnull",
    "null",
    "of",
    "off",
    "offset",
    "old",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "over",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "table",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
};

/* One string out of `count` pieces. */
static char *concat(mig_arena *arena, const char *const *pieces, size_t count)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += strlen(pieces[i]);
    char *text = mig_arena_get(arena, length + 1), *p = text;
    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(pieces[i]);
        memcpy(p, pieces[i], n);
        p += n;
    }
    *p = '\0';
    return text;
}

#define CONCAT(arena, ...)                                                                         \
    concat(arena, (const char *const[]){__VA_ARGS__},                                              \
           sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static bool needs_quotes(const char *name)
{
    for (size_t i = 0; i < sizeof RESERVED_WORDS / sizeof RESERVED_WORDS[0]; i++)
        if (strcmp(name, RESERVED_WORDS[i]) == 0)
            return true;
    if (*name == '\0' || *name == '$' || mig_is_digit(*name))
        return true;
    for (const char *p = name; *p != '\0'; p++)
        if (!((*p >= 'a' && *p <= 'z') || mig_is_digit(*p) || *p == '_' || *p == '$'))
            return true;
    return false;
}

/* An identifier as SQLAlchemy writes it: bare where it may be. */
static const char *identifier(const char *name, mig_arena *arena)
{
    if (!needs_quotes(name))
        return name;
    size_t length = strlen(name);
    char *text = mig_arena_get_array(arena, length + 2, 2), *p = text;
    if (text == NULL)
        return NULL;
    *p++ = '"';
    for (; *name != '\0'; name++) {
        if (*name == '"')
            *p++ = '"';
        *p++ = *name;
    }
    *p++ = '"';
    *p = '\0';
    return text;
}

/* schema.table */
static const char *qualified(const mig_version_table *table, mig_arena *arena)
{
    const char *name = identifier(table->table, arena);
    if (table->schema == NULL || *table->schema == '\0' || name == NULL)
        return name;
    const char *schema = identifier(table->schema, arena);
    return schema != NULL ? CONCAT(arena, schema, ".", name) : NULL;
}

/* A string constant, by libpq: it knows the encoding and standard_conforming_strings. */
static mig_status literal(mig_session *session, mig_text text, mig_arena *arena,
                          const char **quoted, mig_error *error)
{
    if (mig_text_has(text, '\0'))
        return mig_fail(error, MIG_EINVAL,
                        "a name cannot be sent to the server: it has a NUL byte");
    char *escaped = session->pq.PQescapeLiteral(session->conn, text.text, text.length);
    if (escaped == NULL)
        return mig_fail(error, MIG_EINVAL, "a name cannot be sent to the server: it is not UTF-8");
    *quoted = mig_arena_copy(arena, escaped, strlen(escaped));
    session->pq.PQfreemem(escaped);
    return *quoted != NULL ? MIG_OK : mig_fail_memory(error);
}

static mig_status table_exists(mig_session *session, const mig_version_table *table,
                               mig_arena *arena, bool *exists, mig_error *error)
{
    bool by_path = table->schema == NULL || *table->schema == '\0';
    const char *name, *schema = "'pg_catalog'";
    mig_rows rows;
    MIG_TRY(literal(session, mig_text_of(table->table), arena, &name, error));
    if (!by_path)
        MIG_TRY(literal(session, mig_text_of(table->schema), arena, &schema, error));
    const char *sql =
        CONCAT(arena,
               "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class "
               "JOIN pg_catalog.pg_namespace "
               "ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace "
               "WHERE pg_catalog.pg_class.relname = ",
               name, " AND pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']) AND ",
               by_path ? "pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND "
                         "pg_catalog.pg_namespace.nspname != "
                       : "pg_catalog.pg_namespace.nspname = ",
               schema);
    if (sql == NULL)
        return mig_fail_memory(error);
    MIG_TRY(mig_session_query(session, sql, arena, &rows, error));
    *exists = rows.rows > 0;
    return MIG_OK;
}

mig_status mig_version_table_read(mig_session *session, const mig_version_table *table,
                                  mig_arena *arena, mig_version_rows *rows, mig_error *error)
{
    mig_rows found;
    memset(rows, 0, sizeof *rows);
    if (session->conn == NULL)
        return mig_fail(error, MIG_EINVAL, "the session is closed");
    MIG_TRY(table_exists(session, table, arena, &rows->exists, error));
    if (!rows->exists)
        return MIG_OK;
    const char *name = qualified(table, arena);
    const char *sql =
        name != NULL ? CONCAT(arena, "SELECT ", name, ".version_num \nFROM ", name) : NULL;
    if (sql == NULL)
        return mig_fail_memory(error);
    MIG_TRY(mig_session_query(session, sql, arena, &found, error));
    rows->count = found.rows;
    rows->versions = found.values;
    return MIG_OK;
}

const char *mig_version_table_create_sql(const mig_version_table *table, bool primary_key,
                                         mig_arena *arena)
{
    const char *name = qualified(table, arena);
    const char *raw_key = CONCAT(arena, table->table, "_pkc");
    const char *key = raw_key != NULL ? identifier(raw_key, arena) : NULL;
    if (name == NULL || key == NULL)
        return NULL;
    return CONCAT(arena, "\nCREATE TABLE ", name, " (\n\tversion_num VARCHAR(32) NOT NULL",
                  primary_key ? ", \n\tCONSTRAINT " : "", primary_key ? key : "",
                  primary_key ? " PRIMARY KEY (version_num)" : "", "\n)\n\n");
}

mig_status mig_version_table_create(mig_session *session, const mig_version_table *table,
                                    bool primary_key, mig_error *error)
{
    char tag[MIG_TAG_SIZE];
    long long affected;
    mig_arena arena;
    mig_arena_init(&arena, session->arena.alloc);
    const char *sql = mig_version_table_create_sql(table, primary_key, &arena);
    mig_status status = sql != NULL ? mig_session_execute(session, sql, tag, &affected, error)
                                    : mig_fail_memory(error);
    mig_arena_release(&arena);
    return status;
}

mig_status mig_version_table_purge(mig_session *session, const mig_version_table *table,
                                   mig_error *error)
{
    char tag[MIG_TAG_SIZE];
    long long affected;
    mig_arena arena;
    mig_arena_init(&arena, session->arena.alloc);
    const char *name = qualified(table, &arena);
    const char *sql = name != NULL ? CONCAT(&arena, "DELETE FROM ", name) : NULL;
    mig_status status = sql != NULL ? mig_session_execute(session, sql, tag, &affected, error)
                                    : mig_fail_memory(error);
    mig_arena_release(&arena);
    return status;
}

static mig_status sql_of(mig_session *session, const char *name, const mig_version_op *op,
                         mig_arena *arena, const char **sql, mig_error *error)
{
    const char *from = NULL, *to = NULL;
    if (op->kind != MIG_VERSION_INSERT)
        MIG_TRY(literal(session, op->from, arena, &from, error));
    if (op->kind != MIG_VERSION_DELETE)
        MIG_TRY(literal(session, op->to, arena, &to, error));
    if (op->kind == MIG_VERSION_INSERT)
        *sql = CONCAT(arena, "INSERT INTO ", name, " (version_num) VALUES (", to, ")");
    else if (op->kind == MIG_VERSION_DELETE)
        *sql = CONCAT(arena, "DELETE FROM ", name, " WHERE ", name, ".version_num = ", from);
    else
        *sql = CONCAT(arena, "UPDATE ", name, " SET version_num=", to, " WHERE ", name,
                      ".version_num = ", from);
    return *sql != NULL ? MIG_OK : mig_fail_memory(error);
}

mig_status mig_version_op_sql(mig_session *session, const mig_version_table *table,
                              const mig_version_op *op, mig_arena *arena, const char **sql,
                              mig_error *error)
{
    if (session->conn == NULL)
        return mig_fail(error, MIG_EINVAL, "the session is closed");
    const char *name = qualified(table, arena);
    if (name == NULL)
        return mig_fail_memory(error);
    return sql_of(session, name, op, arena, sql, error);
}

/* For "%.*s". */
#define PRINTED(t) (int)(t).length, (t).text

/* HeadMaintainer checks the rows of UPDATE and DELETE. */
static mig_status check_rows(const mig_version_table *table, const mig_version_op *op,
                             long long rows, mig_error *error)
{
    if (rows == 1 || op->kind == MIG_VERSION_INSERT)
        return MIG_OK;
    if (op->kind == MIG_VERSION_DELETE)
        return mig_fail(error, MIG_EVERSION,
                        "Online migration expected to match one row when deleting '%.*s' in '%s'; "
                        "%lld found",
                        PRINTED(op->from), table->table, rows);
    return mig_fail(error, MIG_EVERSION,
                    "Online migration expected to match one row when updating '%.*s' to '%.*s' in "
                    "'%s'; %lld found",
                    PRINTED(op->from), PRINTED(op->to), table->table, rows);
}

mig_status mig_version_table_apply(mig_session *session, const mig_version_table *table,
                                   const mig_version_op *ops, size_t count, size_t *statements,
                                   mig_error *error)
{
    mig_arena arena;
    mig_batch batch;
    mig_status status = MIG_OK;
    *statements = 0;
    if (session->conn == NULL)
        return mig_fail(error, MIG_EINVAL, "the session is closed");
    mig_arena_init(&arena, session->arena.alloc);
    mig_batch_init(&batch, session->arena.alloc);
    const char *name = qualified(table, &arena);
    if (name == NULL) {
        status = mig_fail_memory(error);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        const char *sql;
        status = sql_of(session, name, &ops[i], &arena, &sql, error);
        if (status != MIG_OK)
            goto done;
        status = mig_batch_add(&batch, sql, strlen(sql), error);
        if (status != MIG_OK)
            goto done;
    }
    *statements = batch.count;
    status = mig_batch_run(&batch, session, error);
    if (status != MIG_OK)
        goto done;
    for (size_t i = 0; i < count; i++) {
        status = check_rows(table, &ops[i], batch.statements[i].rows, error);
        if (status != MIG_OK)
            goto done;
    }
done:
    mig_batch_release(&batch);
    mig_arena_release(&arena);
    return status;
}
