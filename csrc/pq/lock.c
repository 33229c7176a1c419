#include "pq/lock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/text.h"

/* `text` as E'...'. NULL: out of memory. */
static const char *literal(const char *text, mig_arena *arena)
{
    enum { LONGEST = 10 }; /* \U0010FFFF, and its NUL is the one of the whole */
    size_t length = strlen(text);
    if (length > SIZE_MAX / LONGEST - 4)
        return NULL;
    size_t size = length * LONGEST + 4, at = 2;
    char *made = mig_arena_get(arena, size);
    if (made == NULL)
        return NULL;
    memcpy(made, "E'", 2);
    for (size_t i = 0; i < length;) {
        uint32_t point;
        size_t bytes = mig_utf8_decode(text + i, length - i, &point);
        if (point == MIG_UTF8_INVALID) {
            bytes = 1; /* each byte is replaced */
            point = MIG_UTF8_REPLACEMENT;
        }
        i += bytes;
        if (point >= 0x80) {
            at += (size_t)snprintf(made + at, size - at, "\\U%08" PRIX32, point);
            continue;
        }
        if (point == '\'' || point == '\\')
            made[at++] = (char)point;
        made[at++] = (char)point;
    }
    memcpy(made + at, "'", 2);
    return made;
}

static const char *format(mig_arena *arena, const char *text, ...) MIG_PRINTF(2, 3);

static const char *format(mig_arena *arena, const char *text, ...)
{
    va_list args, again;
    va_start(args, text);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, text, args);
    char *made = length >= 0 ? mig_arena_get(arena, (size_t)length + 1) : NULL;
    if (made != NULL)
        (void)vsnprintf(made, (size_t)length + 1, text, again);
    va_end(again);
    va_end(args);
    return made;
}

mig_status mig_lock_sql_try(const mig_version_table *table, bool for_session, int backend_pid,
                            mig_arena *arena, const char **sql, mig_error *error)
{
    const char *name = literal(table->table, arena), *schema = NULL, *take = NULL;
    bool by_path = table->schema == NULL || *table->schema == '\0';
    if (!by_path)
        schema = literal(table->schema, arena);
    if (!for_session)
        take = "pg_catalog.pg_try_advisory_xact_lock(lock.key)";
    else if (backend_pid == 0)
        take = "pg_catalog.pg_try_advisory_lock(lock.key)";
    else
        take = format(arena,
                      "CASE WHEN pg_catalog.pg_backend_pid() = %d "
                      "THEN pg_catalog.pg_try_advisory_lock(lock.key) END",
                      backend_pid);
    *sql = NULL;
    if (name != NULL && take != NULL && (by_path || schema != NULL))
        *sql = format(
            arena,
            "WITH version_table AS MATERIALIZED (\n"
            "SELECT c.relnamespace::pg_catalog.regnamespace::text AS schema,\n"
            "(SELECT 'table' FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid\n"
            "AND a.attname = 'version_num' AND NOT a.attisdropped) AS kind\n"
            "FROM pg_catalog.pg_class c WHERE %s%s%s%s%s\n"
            "AND c.relkind IN ('r', 'p', 'f', 'v', 'm')),\n"
            "lock AS MATERIALIZED (\n"
            "SELECT pg_catalog.hashtextextended(('migrate_ext ' || coalesce("
            "(SELECT schema FROM version_table), pg_catalog.quote_ident(coalesce(%s, '')))"
            " || '.' || pg_catalog.quote_ident(%s))\n"
            "COLLATE \"C\", 0) AS key)\n"
            "SELECT lock.key::text, (%s)::text, pg_catalog.current_setting('transaction_isolation')"
            ",\ncoalesce((SELECT coalesce(kind, 'no version_num') FROM version_table), 'missing')\n"
            "FROM lock",
            /* Not by name and pg_table_is_visible: there may be one in each of thousands of
               schemas. */
            by_path ? "c.oid = pg_catalog.to_regclass(pg_catalog.quote_ident(" : "c.relname = ",
            name,
            by_path ? ")) AND c.relnamespace <> 'pg_catalog'::pg_catalog.regnamespace"
                    : " AND c.relnamespace = (SELECT oid FROM pg_catalog.pg_namespace "
                      "WHERE nspname = ",
            by_path ? "" : schema, by_path ? "" : ")",
            by_path ? "pg_catalog.current_schema()" : schema, name, take);
    return *sql != NULL ? MIG_OK : mig_fail_memory(error);
}

mig_status mig_lock_sql_holders(int64_t key, mig_arena *arena, const char **sql, mig_error *error)
{
    uint64_t bits = (uint64_t)key;
    *sql = format(arena,
                  "SELECT l.pid::text, a.application_name, "
                  "pg_catalog.to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ')\n"
                  "FROM pg_catalog.pg_locks l\n"
                  "LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid\n"
                  "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1\n"
                  "AND l.classid = %" PRIu32 " AND l.objid = %" PRIu32 "\n"
                  "AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d\n"
                  "WHERE d.datname = pg_catalog.current_database())\n"
                  "GROUP BY 1, 2, 3 ORDER BY 1",
                  (uint32_t)(bits >> 32), (uint32_t)(bits & UINT32_MAX));
    return *sql != NULL ? MIG_OK : mig_fail_memory(error);
}

mig_status mig_lock_sql_invalid(const char *words, mig_arena *arena, const char **sql,
                                mig_error *error)
{
    const char *list = literal(words, arena);
    *sql = NULL;
    if (list != NULL)
        *sql = format(
            arena,
            "WITH named AS MATERIALIZED (\n" /* first: it has an index, indisvalid has none */
            "SELECT oid, relname, relnamespace FROM pg_catalog.pg_class WHERE relkind = 'i'\n"
            "AND relname = ANY (pg_catalog.string_to_array(%s, ' ')::pg_catalog.name[]))\n"
            "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname),"
            " t.relname::text\n"
            "FROM named c JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid\n"
            "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace\n"
            "JOIN pg_catalog.pg_class t ON t.oid = i.indrelid\n"
            "WHERE NOT i.indisvalid AND (pg_catalog.pg_table_is_visible(c.oid) OR n.nspname =\n"
            "ANY (pg_catalog.string_to_array(%s, ' ')::pg_catalog.name[]))\n"
            "AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p\n"
            "WHERE p.index_relid = i.indexrelid)\n"
            "ORDER BY 1",
            list, list);
    return *sql != NULL ? MIG_OK : mig_fail_memory(error);
}
