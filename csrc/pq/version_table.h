/*
 * The version table over a session: the statements and checks of Alembic's MigrationContext and
 * HeadMaintainer.
 *
 * Mirrors (Alembic 1.20.1) runtime/migration.py `_has_version_table`, `_ensure_version_table`,
 * `HeadMaintainer`, ddl/impl.py `version_table_impl`, and (SQLAlchemy 2.1.9) the PostgreSQL
 * dialect's `has_table` and its rules for quoting identifiers. A table that exists in no schema of
 * the search path does not exist.
 *
 * Functions that send block as mig_session_query does, and have its statuses besides those named
 * here. Ownership: texts given live as long as the call; texts returned live in the caller's arena.
 * One thread at a time. Layer: above batch.h and core/version_ops.h.
 */
#ifndef MIG_PQ_VERSION_TABLE_H
#define MIG_PQ_VERSION_TABLE_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/status.h"
#include "core/version_ops.h"
#include "pq/session.h"

typedef struct mig_version_table {
    const char *table;
    const char *schema; /* NULL or "": found by search_path */
} mig_version_table;

typedef struct mig_version_rows {
    bool exists;
    size_t count;
    const char **versions; /* an entry is NULL where the row is */
} mig_version_rows;

/* Read the rows of the table, or rows->exists = false. Two round trips. MIG_EINVAL: the session is
 * closed, or a name cannot be sent. */
mig_status mig_version_table_read(mig_session *session, const mig_version_table *table,
                                  mig_arena *arena, mig_version_rows *rows, mig_error *error);

/* What mig_version_table_create sends; NULL when out of memory. Sends nothing. */
const char *mig_version_table_create_sql(const mig_version_table *table, bool primary_key,
                                         mig_arena *arena);

/* Create the table, which must not be there. One round trip. */
mig_status mig_version_table_create(mig_session *session, const mig_version_table *table,
                                    bool primary_key, mig_error *error);

/* Delete all rows. One round trip. */
mig_status mig_version_table_purge(mig_session *session, const mig_version_table *table,
                                   mig_error *error);

/*
 * *sql = the statement of one operation, for a caller that sends it with others and checks how many
 * rows it affects. Sends nothing, never blocks. MIG_EINVAL: the session is closed, or a version
 * cannot be sent (it is not UTF-8, or holds a NUL byte). MIG_ENOMEM.
 */
mig_status mig_version_op_sql(mig_session *session, const mig_version_table *table,
                              const mig_version_op *op, mig_arena *arena, const char **sql,
                              mig_error *error);

/*
 * Send `count` operations in one batch, inside a transaction. *statements: how many were sent.
 * MIG_EVERSION, with Alembic's text, when a row was missing or there twice: the statements after it
 * have run as well, and the caller rolls back. Else as mig_version_op_sql and mig_batch_run.
 */
mig_status mig_version_table_apply(mig_session *session, const mig_version_table *table,
                                   const mig_version_op *ops, size_t count, size_t *statements,
                                   mig_error *error);

#endif
