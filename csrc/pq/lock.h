/*
 * The lock of a run of migrations, as SQL: one advisory lock of PostgreSQL for each version table.
 *
 * Only texts are made here, so that every driver can send them, also one without a PGconn;
 * migrate_ext/locking/lock.py decides when each is sent. None of them waits in the server: a waiter
 * inside a lock call would deadlock with CREATE INDEX CONCURRENTLY.
 *
 * The key is hashed from schema and name of the version table; an advisory lock is the database's
 * own. The schema is the one that the table is found in by search_path, or would be made in, so
 * that two runs agree on it whether they name it or not. One that the server would not find by
 * that path, and that is created meanwhile elsewhere, is another table, and another lock.
 *
 * Names are sent as E'' strings of ASCII: they mean the same under every client_encoding and both
 * settings of standard_conforming_strings.
 *
 * Ownership: texts live in the caller's arena. No state, no session; any thread.
 */
#ifndef MIG_PQ_LOCK_H
#define MIG_PQ_LOCK_H

#include "core/arena.h"
#include "core/status.h"
#include "pq/version_table.h"

/*
 * *sql = a query that tries the lock, for the session or for the open transaction. Its answer is
 * one row of texts: the key, 't' or 'f' (whether it was taken; NULL: not tried, the session is
 * another one, see below), the isolation level, and what the version table is ("table", "missing",
 * "no version_num").
 *
 * backend_pid is what the server reported when the connection was made. A pooler that shares server
 * sessions between transactions reports its own number there; a session lock would stay with a
 * server session that another client gets next, so it is not tried. 0: not compared.
 *
 * MIG_OK, MIG_ENOMEM. Sends nothing, here and in the next two.
 */
mig_status mig_lock_sql_try(const mig_version_table *table, bool for_session, int backend_pid,
                            mig_arena *arena, const char **sql, mig_error *error);

/* *sql = a query for the holders of a key, one row each: pid, application_name, time of connection
 * (NULL where the role may not see it). The other queries about a key are in lock.py. */
mig_status mig_lock_sql_holders(int64_t key, mig_arena *arena, const char **sql, mig_error *error);

/*
 * *sql = a query for indexes that an interrupted CREATE INDEX CONCURRENTLY left and that no session
 * is building: those named in `words` (separated by blanks), in schemas of search_path or named in
 * `words`. One row each: the name as SQL, the table's name.
 */
mig_status mig_lock_sql_invalid(const char *words, mig_arena *arena, const char **sql,
                                mig_error *error);

#endif
