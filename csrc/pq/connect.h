/*
 * Connecting a session of our own.
 *
 * As PQconnectdbParams, but non-blocking: the wait asks the session's hook. libpq goes on to the
 * next host when the time for one is over only in its blocking call, so hosts are tried one by one
 * here, in the order and by the rules of libpq (target_session_attrs, load_balance_hosts).
 * (Looking up a host name is libpq's and blocks.)
 */
#ifndef MIG_PQ_CONNECT_H
#define MIG_PQ_CONNECT_H

#include "pq/session.h"

/*
 * Connect a session that has no connection: `count` keywords of libpq and their values.
 * connect_timeout holds for each host, as in libpq; client_encoding is UTF8.
 *
 * MIG_OK: the connection is idle and non-blocking, and its notices are collected. MIG_ECONNECT,
 * with libpq's texts for all hosts; MIG_EINTR: the hook said stop; MIG_EIO, MIG_ENOMEM: the session
 * has no connection, and can be used again. Blocks, with the hook's `interrupted` called at least
 * every MIG_TICK_MS. `error` may be NULL.
 */
mig_status mig_session_connect(mig_session *session, const char *const *keywords,
                               const char *const *values, size_t count, mig_error *error);

#endif
