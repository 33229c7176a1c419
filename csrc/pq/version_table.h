/*
 * The version table over a session: the statements and checks of Alembic's MigrationContext and
 * HeadMaintainer.
 *
 * Mirrors (Alembic 1.20.1) runtime/migration.py `_has_version_table`, `_ensure_version_table`,
 * `HeadMaintainer`, ddl/impl.py `version_table_impl`, and (SQLAlchemy 2.1.9) the PostgreSQL
 * dialect's `has_table` and its rules for quoting identifiers. A table that exists in no schema of
 * the search path does not exist.
 *
 * Round trips: exists and read, two; apply, one for any number of operations.
 * Ownership: strings given live as long as the call; strings returned live in the caller's arena.
 */
#ifndef MIG_PQ_VERSION_TABLE_H
#define MIG_PQ_VERSION_TABLE_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/status.h"
#include "pq/session.h"

typedef struct mig_version_table {
    const char *table;
    const char *schema; /* NULL: found by search_path */
} mig_version_table;

typedef struct mig_version_rows {
    bool exists;
    size_t count;
    const char **versions; /* an entry is NULL where the row is */
} mig_version_rows;

typedef enum mig_version_action {
    MIG_VERSION_INSERT, /* to */
    MIG_VERSION_DELETE, /* from */
    MIG_VERSION_UPDATE  /* from, to */
} mig_version_action;

typedef struct mig_version_operation {
    mig_version_action action;
    const char *from;
    const char *to;
} mig_version_operation;

mig_status mig_version_read(mig_session *session, const mig_version_table *table, mig_arena *arena,
                            mig_version_rows *rows, mig_error *error);
/* What mig_version_create sends; NULL when out of memory. */
const char *mig_version_create_sql(const mig_version_table *table, bool primary_key,
                                   mig_arena *arena);
mig_status mig_version_create(mig_session *session, const mig_version_table *table,
                              bool primary_key, mig_error *error);
mig_status mig_version_purge(mig_session *session, const mig_version_table *table,
                             mig_error *error);
/* The statement of one operation, in `arena`, for whoever sends it with others and checks its rows.
 */
mig_status mig_version_sql(mig_session *session, const mig_version_table *table,
                           const mig_version_operation *operation, mig_arena *arena,
                           const char **sql, mig_error *error);
/* In one batch, inside a transaction. MIG_EVERSION, with Alembic's text, when a row was missing or
 * doubled: the statements after it have run as well, and the caller rolls back. `statements`: how
 * many were sent. */
mig_status mig_version_apply(mig_session *session, const mig_version_table *table,
                             const mig_version_operation *operations, size_t count,
                             size_t *statements, mig_error *error);

#endif
