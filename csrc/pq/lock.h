/*
 * The lock of a run of migrations, as SQL: one advisory lock of PostgreSQL for each version table.
 *
 * Only texts are made here, so that every driver can ask them, ours over a mig_session and those
 * without a PGconn their own way; migrate_ext/lock.py knows when which is asked. None of them waits
 * in the server: a waiter inside a lock call would deadlock with CREATE INDEX CONCURRENTLY.
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
 * Try the lock, for the session or for the open transaction; answered with one row of texts: the
 * key, 't' or 'f' (had or not; NULL: refused, the session is another's, see below), the isolation
 * level, and what the version table is ("table", "missing", "no version_num").
 *
 * backend_pid is what the server told when the connection was made. A pooler that shares server
 * sessions between transactions gives its own number there; then a session's lock would stay with a
 * session that is soon somebody else's, and is not taken. 0: not compared.
 */
mig_status mig_lock_sql_try(const mig_version_table *table, bool for_session, int backend_pid,
                            mig_arena *arena, const char **sql, mig_error *error);

/* One row a holder: pid, application_name, since when it is connected (NULL where we may not know).
 * The rest of the questions about a key: see lock.py. */
mig_status mig_lock_sql_holders(int64_t key, mig_arena *arena, const char **sql, mig_error *error);

/* The indexes named in `words` (separated by blanks) that an interrupted CREATE INDEX CONCURRENTLY
 * left, and that nobody is building, in schemas of search_path or named in `words`: the name as
 * SQL, the table's name. */
mig_status mig_lock_sql_invalid(const char *words, mig_arena *arena, const char **sql,
                                mig_error *error);

#endif
