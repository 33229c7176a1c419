/*
 * From a database URL, as SQLAlchemy reads it, to the keywords and values of PQconnectStartParams.
 *
 * Mirrors dialects/postgresql of SQLAlchemy 2.1.9 (`create_connect_args`,
 * `_split_multihost_from_url`): options in the query win over the parts before it. What SQLAlchemy
 * hands to one driver only is MIG_EDECLINED. `postgres://` is accepted.
 *
 * Nothing here reads the environment or opens a connection. No error text holds any byte of the URL
 * apart from the name of a driver or an option.
 *
 * Ownership: all strings live in the caller's arena. No state; any thread. Cost: O(length).
 */
#ifndef MIG_PQ_CONNINFO_H
#define MIG_PQ_CONNINFO_H

#include "core/arena.h"
#include "core/status.h"

typedef struct mig_conninfo {
    const char **keywords; /* `count` of them, then NULL: as PQconnectStartParams wants it */
    const char **values;
    size_t count;
    const char *driver; /* what stands after '+', or "" */
} mig_conninfo;

/*
 * Read a URL of `length` bytes, which need not end in NUL.
 *
 * MIG_OK. MIG_EINVAL: no URL, or not PostgreSQL's. MIG_EDECLINED: an option that only the named
 * driver knows, or a database name that SQLAlchemy 2.0 and 2.1 read differently. MIG_ENOMEM. After
 * a failure nothing in *conninfo may be used.
 */
mig_status mig_conninfo_from_url(const char *text, size_t length, mig_arena *arena,
                                 mig_conninfo *conninfo, mig_error *error);

#endif
